"""The invented words of the synthetic catalog: comma-separated, so that they read as lists."""

# department | category | subcategory | audience | family | product types | weight
ASSORTMENT = """
Clothing|Women's Clothing|Western Wear|Women's|upper|Top,Shirt,Tunic,T-Shirt|10
Clothing|Women's Clothing|Western Wear|Women's|dress|Dress,Gown,Jumpsuit|6
Clothing|Women's Clothing|Ethnic Wear|Women's|ethnic|Kurta,Saree,Lehenga,Salwar Suit|8
Clothing|Women's Clothing|Bottom Wear|Women's|lower|Leggings,Jeans,Trousers,Palazzo|6
Clothing|Women's Clothing|Winter Wear|Women's|winter|Cardigan,Shrug,Jacket,Sweater|5
Clothing|Men's Clothing|Shirts & T-Shirts|Men's|upper|Shirt,T-Shirt,Polo,Henley|8
Clothing|Men's Clothing|Jeans & Trousers|Men's|lower|Jeans,Trousers,Chinos|5
Clothing|Men's Clothing|Sports & Gym Wear|Men's|sport|Track Pants,Gym Vest,Shorts|4
Clothing|Men's Clothing|Winter Wear|Men's|winter|Sweatshirt,Jacket,Sweater|4
Clothing|Kids' Clothing|Girls Wear|Girl's|dress|Frock,Dress,Skirt Set|5
Clothing|Kids' Clothing|Boys Wear|Boy's|upper|T-Shirt,Shirt,Kurta|4
Clothing|Kids' Clothing|Infants Wear|Baby's|upper|Romper,Bodysuit,Sleepsuit|3
Clothing|Kids' Clothing|School & Play Wear|Kids'|sport|Track Suit,Shorts,Joggers|3
Footwear|Women's Footwear|Flats|Women's|shoe|Ballerinas,Sandals,Slip-Ons|4
Footwear|Men's Footwear|Casual Shoes|Men's|shoe|Sneakers,Loafers,Canvas Shoes|4
Jewellery|Necklaces & Chains|Necklaces|Women's|jewel|Necklace,Pendant,Chain|4
Jewellery|Rings & Earrings|Earrings|Women's|jewel|Earring Set,Hoops,Ring|3
Home Furnishing|Bed Linen|Bedsheets||home|Bedsheet,Quilt Cover,Pillow Cover|4
Home Furnishing|Living Room|Curtains||home|Curtain,Cushion Cover,Throw|3
Bags, Wallets & Belts|Handbags|Shoulder Bags|Women's|bag|Tote,Sling Bag,Clutch|3
Bags, Wallets & Belts|Bags|Backpacks|Unisex|bag|Backpack,Messenger Bag|2
Watches|Wrist Watches|Casual Watches|Unisex|watch|Analog Watch,Digital Watch|3
"""

# The first two of a family stand in every record, of the slots behind them only the first two (or
# three, where there is no audience). "A~B" is a slot that holds one of both; "@box" is a value
# without a key.
FAMILIES: dict[str, str] = {
    "upper": "Fabric,Color,Neck,Pattern,Sleeve,Fit~Length,Occasion~Fabric Care,Style Code~@box",
    "dress": "Fabric,Color,Length,Pattern,Sleeve~Neck,Closure,Occasion~Fabric Care,Pack~@box",
    "ethnic": "Fabric,Color,Pattern,Neck,Sleeve,Length~Lining,Occasion~Fabric Care,Pack~@box",
    "lower": "Fabric,Color,Closure,Pattern,Pockets,Fit~Rise,Occasion~Fabric Care,Style Code~Pack",
    "winter": "Fabric,Color,Closure,Pattern,Sleeve,Hood~Lining,Pockets~Fit,Fabric Care~Style Code",
    "sport": "Fabric,Color,Fit,Pattern,Pockets,Waistband,Fabric Care~Occasion,Style Code~Pack",
    "shoe": "Material,Color,Closure,Sole Material,Occasion,Tip Shape,Weight,Style Code~@box",
    "jewel": "Base Material,Color,Plating,Gemstone,Occasion,Finish,Weight,Style Code~@box",
    "home": "Material,Color,Size,Pattern,Shape,Machine Washable,Weight,Pack~@box",
    "bag": "Material,Color,Closure,Compartments,Occasion,Pockets,Weight,Style Code~@box",
    "watch": "Strap Material,Dial Color,Dial Shape,Movement,Occasion,Water Resistance,Warranty,"
    "Style Code~@box",
}
NAME_SHARES = {"Occasion": 0.6, "Sleeve": 0.45, "Pattern": 0.7}
"""Attributes that may stand in a product's name, in name order, and how often."""

VALUES: dict[str, str] = {
    "Fabric": "Cotton,Viscose,Polyester,Linen,Rayon,Georgette,Cotton Blend,Crepe,Modal,Satin",
    "winter:Fabric": "Wool,Fleece,Acrylic,Cashmere Blend,Cotton Blend,Corduroy,Nylon,Velvet",
    "ethnic:Fabric": "Cotton,Silk,Chiffon,Georgette,Chanderi,Rayon,Muslin,Art Silk,Net,Organza",
    "Color": "Black,White,Navy,Red,Maroon,Green,Olive,Mustard,Pink,Peach,Grey,Beige,Teal,Purple,"
    "Sky Blue,Orange,Brown,Turquoise",
    "Pattern": "Solid,Printed,Striped,Checkered,Floral Print,Embroidered,Self Design,Polka Print,"
    "Geometric Print,Color Block",
    "Sleeve": "Sleeveless,Half Sleeve,Full Sleeve,3/4 Sleeve,Cap Sleeve,Short Sleeve",
    "Neck": "Round Neck,V-Neck,Boat Neck,Mandarin Collar,Square Neck,Scoop Neck,Henley,Polo Collar",
    "Fit": "Regular,Slim,Relaxed,Comfort,Tapered,Loose",
    "Length": "Knee Length,Ankle Length,Hip Length,Calf Length,Above Knee,Thigh Length",
    "Occasion": "Casual,Formal,Party,Festive,Lounge Wear,Sports",
    "Fabric Care": "Hand Wash in Cold Water,Gentle Machine Wash,Dry Clean Only,Wash Dark Colors "
    "Separately,Machine Wash Warm",
    "Closure": "Button,Zip,Hook,Drawstring,Elastic,Velcro,Buckle,Slip On",
    "Pockets": "No Pockets,1 Pocket,2 Side Pockets,4 Pockets,5 Pockets,2 Patch Pockets",
    "Rise": "Low Rise,Mid Rise,High Rise",
    "Hood": "Hooded,Detachable Hood,No Hood",
    "Lining": "Cotton Lining,Polyester Lining,No Lining,Quilted Lining",
    "Waistband": "Elastic Waistband,Drawstring Waistband,Ribbed Waistband,Flat Waistband",
    "Material": "Canvas,Synthetic Leather,Jute,Mesh,Suede,Cotton,Microfibre,Denim",
    "Sole Material": "Rubber,EVA,PVC,TPR,Cork",
    "Tip Shape": "Round,Pointed,Open,Square",
    "Base Material": "Alloy,Brass,Copper,Sterling Silver,Stainless Steel,Wood",
    "Plating": "Gold,Silver,Rhodium,Rose Gold,Oxidised",
    "Gemstone": "Zircon,Pearl,Agate,Turquoise,Garnet,Moonstone",
    "Finish": "Glossy,Matte,Antique,Brushed",
    "Size": "Single,Double,Queen,King,40 x 40 cm,5 ft,7 ft",
    "Shape": "Square,Rectangle,Round",
    "Machine Washable": "Yes,No",
    "Compartments": "1,2,3,4",
    "Weight": "80 g,150 g,250 g,400 g,600 g,850 g",
    "Strap Material": "Leather,Steel,Silicone,Nylon,Resin",
    "Dial Color": "Black,White,Blue,Silver,Green,Champagne",
    "Dial Shape": "Round,Square,Tonneau,Rectangle",
    "Movement": "Quartz,Mechanical,Solar,Automatic",
    "Water Resistance": "30 m,50 m,100 m",
    "Warranty": "6 Months,1 Year,2 Years",
    "Pack": "Pack of 1,Pack of 2,Pack of 3",
}
KEYS = {"Pack": "Number of Contents in Sales Package", "Compartments": "Number of Compartments"}

BRAND_STARTS = "Ave,Bri,Cor,Dal,Elo,Fen,Gri,Hal,Ive,Jor,Kel,Lum,Mar,Nor,Ori,Pel,Quo,Ril,Sol,Tam,Ula"
BRAND_ENDS = (
    "dine,lora,mont,vessa,wick,thra,nara,bello,quill,stova,rique,mira,zette,dara,fable,nook"
)

SENTENCES = (
    "From {brand}: {type} in {color}, made of {material}.",
    "{brand} presents {type} in {color}, cut from {material}.",
    "Made of {material}, a {color} pick from the {type} range of {brand}.",
)
MORE_SENTENCES = (
    "It goes with what you have and keeps its shape, wash after wash.",
    "An easy choice for a long day, made to be worn often.",
    "Our buyers like the finish & the way it feels.",
    "Please note that the shade may differ slightly from the picture.",
    "Size up if you are between two sizes; it's a true fit otherwise.",
)
