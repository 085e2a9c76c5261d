"""What a message does, told by its words: compares, asks a price, wants more, says thanks, …

Patterns over the words of a message in normal form (lower case, single spaces, "2" for "two").
None of them repeats a repetition, so each takes time in proportion to the message.
"""

import re
from collections.abc import Iterable
from typing import Literal

Act = Literal[
    "alternatives",
    "any",
    "budget",
    "change",
    "cheaper",
    "cheapest",
    "compare",
    "complements",
    "dearer",
    "dearest",
    "instructions",
    "more",
    "overview",
    "price",
    "reset",
    "service",
    "shopping",
    "thanks",
    "greeting",
    "goodbye",
    "browsing",
    "yes_or_no",
    "which",
]

_ACTS: dict[Act, str] = {
    "instructions": r"\b(?:ignore|disregard|forget|override|bypass|reveal|print|show|repeat|leak)\b"
    r"[^?]{0,60}\b(?:instructions?|system prompt|system message|guidelines|prompt|rules)\b"
    r"|\bsystem prompt\b|\bjailbreak\b|\bdeveloper mode\b|\byou are now\b|\bdo anything now\b"
    r"|\b(?:pretend|act) (?:to be|you are|that you|as (?:a|an|my|if))\b",
    "compare": r"\b(?:compare|comparison|differences?|differ|versus|vs|better than"
    r"|which (?:(?:1|one) )?is better)\b",
    "which": r"^(?:and |so |ok |but )?(?:which|whose)\b|\bwhich (?:one|1|of|is|are)\b",
    "alternatives": r"\b(?:alternatives?|similar|instead of|other than|comparable|in place of)\b"
    r"|\b(?:something|anything|else|(?:else|others?|another) (?:[^ ]+ ){0,4}?(?:have|got|sell|carry"
    r"|one|1|ones)) like (?!\d)"
    r"|\b(?:something|anything|else|more|others?|another|ones|products) (?:[^ ]+ ){0,5}?(?:like"
    r" (?:it|this|that|these|those|them)|of (?:this|that|the same|its) (?:kind|sort|type|style)"
    r"|along (?:the same|these|those) lines)\b",
    "complements": r"\b(?:go(?:es)? (?:well )?with|pairs? (?:well )?with"
    r"|wear (?:it |this |that )?with|match(?:es)?|combine|complete the look|along with"
    r"|together with|style (?:it )?with"
    r"|style it|complements?|outfit for (?:it|this|that))\b",
    "more": r"\b(?:show|give|see|view|have|any|list|few|some|load)(?: me| us| you)?(?: some| a few"
    r"| any| the)? (?:more|others?|other (?:ones|options)|rest|next(?: \d+| page| ones)?)\b"
    r"|^(?:ok |and |yes |please )*(?:more|next|others?|what else|continue|go on|anything else"
    r"|something else|more options|more results|next page|keep going)\b",
    "cheaper": r"\b(?:cheaper|less expensive|lower price|lower priced|too expensive|too pricey"
    r"|too costly|too dear|too much(?! for (?:a|the)\b)|less costly|more affordable"
    r"|not so expensive|(?:can ?not|could not|can t) afford"
    r"|(?:over|above|beyond|out of) (?:my|our|the) budget|costs? less(?! than \d))\b",
    "cheapest": r"\b(?:cheapest|least expensive|lowest prices?|lowest priced|most affordable"
    r"|low to high|cheap|affordable|inexpensive|lowest cost)\b",
    "dearer": r"\b(?:more expensive|pricier|higher price|more premium|costlier|dearer)\b",
    "dearest": r"\b(?:most expensive|priciest|highest prices?|highest priced|high to low|costliest"
    r"|most premium|luxury|dearest)\b",
    "budget": r"\bbudget\b|\b(?:can|could|will|would|only|want to|able to) (?:spend|afford|pay)\b"
    r"|\b(?:i|we) (?:only |just )?(?:have|got)(?: only| just)?(?: rs)? \d"
    r"|\bmy (?:limit|max|maximum)\b",
    "price": r"\b(?:price|prices|costs?|how much|priced|expensive|mrp|discount|discounted)\b"
    r"|\bwhat (?:[^ ]+ ){1,5}(?:pay|spend|owe)\b|\bwhat is the total\b|\bin total\b",
    "overview": r"\b(?:tell me (?:more )?about|describe|details?|more about|know about|information"
    r"|info|what is (?:the )?(?:first|second|third|last|item|this|that|it)$"
    r"|specifications?|specs)\b",
    "reset": r"\b(?:start over|start again|new search|forget (?:it|that|this|about it|all that)"
    r"|never mind|nevermind|reset|clear (?:all|everything|filters?)|from scratch)\b",
    "service": r"\b(?:deliver(?:y|ed|s)?|ship(?:ping|ped)?|returns?|refunds?|exchange|in stock"
    r"|out of stock|warranty|cash on delivery|payment|pay (?:by|with|in|on|via|using|online|later)"
    r"|(?:how|where|when|can|could|may) (?:(?:do|can|could|will|would|should) )?(?:i|we) pay"
    r"|coupons?|checkout|my order|store hours|opening hours|add to (?:my )?(?:cart|basket))\b",
    "shopping": r"\b(?:(?:do|does|did|will|can) (?:you|u|your|the) (?:\w+ ){0,2}?(?:have|sell|carry"
    r"|stock|offer|get)|have you got|you got|got any|you sell|looking for|look for|search for"
    r"|i need|i want|i would like|would like|i like|show me|find me|find|buy|purchase|interested in"
    r"|shopping for|is there|are there|any)\b",
    "change": r"\b(?:actually|instead|rather|only|just|changed my mind|what about|how about"
    r"|on second thought|switch to|make (?:it|that)|now|^and|^or|also)\b",
    "any": r"\b(?:any|every|whichever|whatever|no particular|regardless of|all)\b"
    r"|\b(?:not|no longer) (?:\w+ )?(?:matters?|important|care)\b|\bno (?:price )?limit\b",
    "thanks": r"\b(?:thanks?|thank you|thx|cheers|appreciate)\b",
    "greeting": r"^(?:hello|hi|hey|hiya|howdy|good (?:morning|afternoon|evening|day)|namaste"
    r"|greetings)\b",
    "goodbye": r"\b(?:bye|goodbye|good bye|see you|good night|that is all|that will be all)\b",
    "browsing": r"\bwhat (?:(?:all|else) )?(?:do|can) (?:you|i) (?:sell|have|carry|stock|buy"
    r"|offer)\b"
    r"|\bwhat (?:kinds?|sorts?|types?) of (?:things|products?|items|stuff|clothes|clothing"
    r"|garments)\b"
    r"|\b(?:show|see) (?:me )?(?:your|the|whole) (?:catalog|range|collection|products|store"
    r"|shop)\b",
    "yes_or_no": r"^(?:yes|no|nope|yeah|yep|ok|okay|sure|maybe|fine|right|cool|great|nice)$",
}
_JOINING = re.compile(
    r"no|nope|not|sorry|oops|wait|hold|on|oh|ok|okay|well|and|also|but|or|then|so|now|actually"
    r"|rather|instead|please|what|how|about|of|for|with|the|that|one|1|i|mean|meant|same|too"
)
_PATTERNS = {act: re.compile(pattern) for act, pattern in _ACTS.items()}


def acts_in(said: str) -> frozenset[Act]:
    """Everything that a message in normal form does."""
    return frozenset(act for act, pattern in _PATTERNS.items() if pattern.search(said))


def only_joins(words: Iterable[str]) -> bool:
    """Whether words ask for nothing of their own: "no, wait: and of …" goes on with what was."""
    return all(_JOINING.fullmatch(word) for word in words)


def words_before_thing(said: str) -> int:
    """How many words a message has up to where it names what it looks for: "do you sell …"."""
    ends = [match.end() for match in _PATTERNS["shopping"].finditer(said)]
    return said[: ends[-1]].count(" ") + 1 if ends else 0
