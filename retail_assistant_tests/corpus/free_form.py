"""True dialogues in words such as a language model finds: written by hand, filled with records.

`{name}` is how the dialogue calls the product, `{short}` brand and kind ("Lumnook jacket"),
`{value}` the value as in the record and `{said}` the value as people say it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from retail_assistant.corpus.dialogues import Dialogue
from retail_assistant.corpus.draws import pick

_ANY_QUESTION = (
    "hi! quick one: what {verb} the {noun} on the {name}?",
    "Could somebody tell me about the {noun} of {name}? I can't find it on the page.",
    "I've had my eye on {name} for a while, what's the {noun} like?",
    "{name} - {noun}?",
)
QUESTIONS: dict[str, tuple[str, ...]] = {
    "Fabric": (
        "What is {name} made of?",
        "I have sensitive skin, so which material is used for {name}?",
        "Is there any info about what cloth {name} is cut from?",
    ),
    "Color": ("Which shade does {name} come in?", "What colour would I get with {name}?"),
    "Closure": ("How do you do up {name}?", "How does {name} fasten?"),
    "Fabric Care": ("How should I wash {name}?", "Any washing instructions for {name}?"),
    "Occasion": ("Where could I wear {name} to?", "What kind of event is {name} right for?"),
    "Pockets": ("Has {name} got somewhere to put my phone?", "Any pockets on {name}?"),
    "Number of Contents in Sales Package": ("How many do I get when I order {name}?",),
    "Length": ("How long is {name}?", "Where does {name} end on the leg?"),
    "Fit": ("How does {name} sit on the body?", "Is {name} cut close or wide?"),
    "Ideal For": ("Who is {name} made for, please?",),
}
_ANY_ANSWER = (
    "The {noun} of the {short}: {value}.",
    "Our catalog gives {value} as the {noun} of {name}.",
    "Happy to help! For {name}, the {noun} {verb} {value}.",
)
ANSWERS: dict[str, tuple[str, ...]] = {
    "Fabric": (
        "The {name} is made of {said}.",
        "It is {said}, so you can look forward to a pleasant feel.",
        "Good question! The {short} is cut from {said}.",
        "{value} is the fabric our records give for this one.",
    ),
    "Color": (
        "It comes in {said}.",
        "You would be getting the {short} in {said}.",
        "The {name} is a beautiful {said}.",
    ),
    "Pattern": (
        "You will find a {said} pattern on it.",
        "The {short} has a {said} design.",
        "Its look is {said}, as our records have it.",
    ),
    "Neck": (
        "It has a {said}.",
        "The {short} is designed with a {said}.",
        "{value}, it says here.",
    ),
    "Sleeve": ("It's a {said} style.", "The {short} is cut in a {said} style."),
    "Closure": ("It closes with a {said} fastening.", "The fastening is {said}."),
    "Fit": ("It is cut for a {said} fit.", "The {short} has a {said} fit."),
    "Fabric Care": ("{said}, please.", "To keep it nice for long: {said}."),
    "Occasion": ("It is meant for {said} wear.", "We list it for {said} occasions."),
    "Length": ("It is {said} in length.", "The {short} has a {said} cut."),
    "Pockets": ("It {said}.", "As listed, the {short} {said}."),
    "Lining": ("It {said}.", "According to the record, the {short} {said}."),
    "Waistband": ("It has a {said}.",),
    "Rise": ("They are {said}.", "The cut is {said}."),
    "Number of Contents in Sales Package": ("It's sold as a {said}.", "You get a {said}."),
    "Ideal For": ("It's made for {said}.", "This one is for {said}."),
}
SAID = {
    "V-Neck": "v-neck",
    "Henley": "henley neckline",
    "Polo Collar": "polo collar",
    "3/4 Sleeve": "3/4-sleeve",
    "Hand Wash in Cold Water": "wash it by hand in cold water",
    "Dry Clean Only": "dry clean only",
    "Machine Wash Warm": "machine wash it warm",
    "Gentle Machine Wash": "a gentle machine wash is what it needs",
    "Wash Dark Colors Separately": "wash dark colours separately",
    "Lounge Wear": "lounge",
    "Knee Length": "knee-length",
    "Ankle Length": "ankle-length",
    "Above Knee": "above-the-knee",
    "2 Side Pockets": "has two side pockets",
    "2 Patch Pockets": "has two patch pockets",
    "1 Pocket": "has one pocket",
    "4 Pockets": "has four pockets",
    "5 Pockets": "has five pockets",
    "No Pockets": "does not have any pockets",
    "No Lining": "has no lining",
    "Cotton Lining": "has a cotton lining",
    "Polyester Lining": "is lined with polyester",
    "Quilted Lining": "has a quilted lining",
    "Low Rise": "low-rise",
    "Mid Rise": "mid-rise",
    "High Rise": "high-rise",
    "Women's": "women",
    "Men's": "men",
    "Boy's": "boys",
    "Girl's": "girls",
    "Baby's": "babies",
    "Kids'": "kids",
}
OVERVIEWS = (
    "{name} is from our {category} range. In short: {details}.",
    "Sure! Here is what we know about the {short}:\n{lines}",
    "A quick profile of {name}: {details}. Let me know if you need more.",
)
ALTERNATIVES = (
    "If you like {name}, have a look at {first} or {second}.",
    "Two that come close: {first}, and {second}.",
    "You might also enjoy:\n1. {first}\n2. {second}\nBoth are near to {name}.",
)
COMPLEMENTS = (
    "{first} would go well with it, and so would {second}.",
    "To complete the look, try {first}. Another idea is {second}.",
    "I would pair {name} with:\n* {first}\n* {second}",
)
DECLINES = (
    "I'm sorry, but our catalog doesn't mention the {noun} of {name}.",
    "Unfortunately the {noun} of this one is not listed in our records.",
    "We have no information about the {noun} of the {short}, I'm afraid.",
    "That isn't stated in the product record, so I can't say what the {noun} {verb}.",
    "I could not find the {noun} in the record for {name}.",
)
UNKNOWN = (
    "Sorry, we don't carry {name}.",
    "I couldn't find any product called {name} in our catalog.",
    "There is no {name} in our range, I'm afraid.",
    "I am not able to find {name}. Could you check the name?",
)
_NOUNS = {
    "Number of Contents in Sales Package": ("pack size", "is"),
    "Ideal For": ("intended wearer", "is"),
    "Pockets": ("pockets", "are"),
}


def said(value: str) -> str:
    """The value as people say it in a sentence."""
    return SAID.get(value, value.lower())


def short_name(product: Mapping[str, Any]) -> str:
    """Brand and kind: "Lumnook jacket"."""
    kinds = [entry["value"] for entry in product["attributes"] if entry["name"] == "Type"]
    brand = product["brand"] or product["name"].split()[0]
    return f"{brand} {kinds[0].lower() if kinds else 'piece'}"


def in_free_form(
    dialogue: Dialogue, products: Mapping[str, Mapping[str, Any]], seed: int
) -> Dialogue:
    """The same dialogue, asked and answered in other words."""
    return dialogue.model_copy(
        update={
            "question": _question(dialogue, seed),
            "answer": free_answer(dialogue, products, seed),
            "phrasing": "free",
            "generator": "planted",
        }
    )


def free_answer(dialogue: Dialogue, products: Mapping[str, Mapping[str, Any]], seed: int) -> str:
    """A true answer in other words, in the style of its intent."""
    purpose = ("answer", seed, dialogue.dialogue_id)
    product = products.get(dialogue.product_id or "")
    words = {**_words(dialogue), "short": short_name(product) if product else ""}
    if dialogue.intent == "attribute":
        own = ANSWERS.get(dialogue.asked_attribute or "", ())
        value = dialogue.gold_value or ""
        plain = pick((*own, *own, *_ANY_ANSWER), *purpose)
        return _capital(plain.format(**words, value=value, said=said(value)))
    if dialogue.intent == "unanswerable":
        return pick(DECLINES if product else UNKNOWN, *purpose).format(**words)
    if dialogue.intent == "overview":
        lines = dialogue.answer.splitlines()[2:]
        details = ", ".join(re.sub(r"^(.*?): (.*)$", r"\1 \2", line) for line in lines)
        filled = {**words, "details": details, "lines": "\n".join(f"- {line}" for line in lines)}
        category = dialogue.answer.splitlines()[1].removeprefix("Category: ")
        return pick(OVERVIEWS, *purpose).format(**filled, category=category)
    bullets = [line[2:].rsplit(": ", 1)[0] for line in dialogue.answer.splitlines()[1:]]
    options: Sequence[str] = ALTERNATIVES if dialogue.intent == "alternative" else COMPLEMENTS
    return pick(options, *purpose).format(**words, first=bullets[0], second=bullets[1])


def _question(dialogue: Dialogue, seed: int) -> str:
    own = QUESTIONS.get(dialogue.asked_attribute or "", ())
    by_intent = {
        "overview": ("What's the deal with {name}?", "Give me a short profile of {name}, please."),
        "alternative": ("{name} is out of my size. What else is there?", "Anything like {name}?"),
        "complement": ("Help me build an outfit around {name}.", "I own {name}; what suits it?"),
    }
    options = by_intent.get(dialogue.intent, (*own, *own, *_ANY_QUESTION))
    return pick(options, "question", seed, dialogue.dialogue_id).format(**_words(dialogue))


def _words(dialogue: Dialogue) -> dict[str, str]:
    attribute = dialogue.asked_attribute or ""
    noun, verb = _NOUNS.get(attribute, (attribute.lower(), "is"))
    return {"name": dialogue.reference or "", "noun": noun, "verb": verb}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
