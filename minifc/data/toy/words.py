"""The words of the small world, listed and invented, and the side each of them is on.

Held out means held out: `held_out(word)` decides by a hash whether a word, ours or invented, belongs
to the test side. No text of any training stage contains such a word; test tools, slots and values
are made of nothing else.
"""

import random
import string
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Literal

Side = Literal["train", "test"]

VERBS = """
    adjust admit advise align announce approve arrange assess assign attach audit award balance bake bless
    block boil book borrow brew browse bundle burn calculate cancel capture carve catch charge chart chase
    check choose claim clean climb close collect combine compare compile confirm convert cook copy count cover
    craft crush cure cut dance deliver deposit describe design detect dig display donate draft draw dress
    drill drop dry dye edit erase escort estimate examine exchange export extend fetch file filter fix
    fold follow forecast forge freeze fry gather glue grade grill grind guard guess guide harvest heat hide
    hire hunt import inspect install insure invent invite invoice iron judge juggle knit launch learn
    lease lend lift light load locate lock log mail map mark match measure melt mend merge mix mount move mow
    name notify open order organise pack paint park patch pay peel pick pilot plan plant plot polish post pour
    praise predict press price print process promote protect publish pump purchase push quote race rank rate
    read record recycle reject release remove rename rent repair replace report reserve reset restore reverse
    review ride roast roll rotate sail salt sample scan schedule score scrub seal search sell send serve sew
    share sharpen shave ship sign simulate sketch slice smooth sort spray stack stamp start stitch stop store
    stretch submit summon survey swap sweep swim switch tag test tie tow trace track trade train transfer
    translate transport trim tune unlock update upload validate verify visit wash watch water weave weigh weld
    wipe wrap
""".split()

NOUNS = """
    account actor album alarm alert anchor apple archive arrow badge bag balloon banner barrel basket battery
    beach bean bear bell belt bench bicycle bird blanket boat bolt bonus book bottle bowl bracelet branch
    bread brick bridge brush bucket budget building bus button cabin cable cake camel camera candle canoe
    canvas car card carpet cart castle cat chain chair channel cheese chess chicken choir circuit clock cloth
    cloud coat coin concert cookie copper corn cottage couch coupon cow crane crayon crown cup curtain
    dashboard deer desk diary dinner dog doll door dragon drawer dress drum duck eagle egg engine envelope
    event exam fabric farm fence ferry festival field film fish flag flight flower flute forest fork fountain
    frame fridge frog fruit game garage garden gate gift glass glove goat grape guitar hammer harbour hat
    hedge helmet horse hotel house island jacket jar journal jungle kettle key kitchen kite kitten ladder lake
    lamp lantern laptop leaf lecture lemon letter library lion loan lobster machine magnet mango map market
    mask meadow meal medal meeting melon menu message meter mirror mission monkey moon motor mountain movie
    museum needle nest notebook oar olive onion orchard oven owl package painting palace panda pan paper
    parade parcel parrot party path peach pen pencil pepper permit phone photo piano picnic pie pigeon pillow
    pipe pizza planet plate playlist podcast poem pond poster potato printer prize pump puppet puzzle rabbit
    radio raft rail recipe report ribbon river road robot rocket roof room rope sail salad sandwich scarf
    school scooter script sensor server shed sheep shelf shell ship shirt shoe shop song soup spider spoon
    stadium stage statue story stove stream suitcase sword table tank taxi teapot tent ticket tiger timer
    toaster tower toy tractor trail train tree truck trumpet tunnel turtle umbrella vase village violin wagon
    wall wallet watch website wheel whistle window wolf yacht zebra
""".split()

# Small words that stand around what a sentence is about. Sentences are improvised with them.
FILLERS = """
    about after again all already also always and another any are around as at away back before both but by call
    did do does done down either enough even ever every fine first from front full further getting give good had
    happy has hear hope how however indeed instead into its just kindly last later least less like long look lot
    made make many maybe more most much near next no not nothing now off often oh ok on once one only or other
    our out over own perhaps quick quickly quite rather ready right same say see she since so some soon still
    such sure than their them there these they thing this those though through together too two under until up
    use used using usually very wait was way well were what where which while who why will wish within without
    wonder work yes yet your
""".split()

# Details, by what they hold. The values of a text slot come from the list of its name in VALUES.
SLOTS: dict[str, list[str]] = {
    "person": """owner sender buyer seller author driver guest manager client tenant teacher pilot witness
        patient doctor captain sponsor editor coach winner artist carrier""".split(),
    "place": """city town origin region country port station street venue district valley harbourside
        destination county suburb terminal province borough""".split(),
    "thing": """colour material flavour style brand shape theme texture fabrication pattern topic genre
        category season finish scent tone mood method format grade""".split(),
    "number": """weight size price amount height length width depth speed quantity age distance duration
        volume floor row seats copies pages score limit level""".split(),
}
VALUES: dict[str, list[str]] = {
    "person": """Ada Alba Amir Anya Bela Boris Carla Cyrus Dana Dario Della Edgar Elena Emil Esther Fatima Felix
        Flora Gita Goran Greta Hana Hector Hugo Ines Ingrid Ivan Jana Jonas Julia Kamil Karim Kira Lars Leila
        Lena Liam Lucia Magnus Mara Marco Milan Mina Nadia Nina Noah Olga Omar Oscar Paula Pedro Petra Quentin
        Rafael Rita Rosa Ruben Sana Selma Simon Sofia Sven Tariq Tessa Tomas Uma Vera Viktor Wanda Xavier Yara
        Yusuf Zara Zeno""".split(),
    "place": """Accra Amman Athens Baku Bergen Berlin Bogota Bristol Cairo Cardiff Cork Dakar Delhi Denver Dover
        Dublin Durban Essen Fargo Florence Geneva Genoa Ghent Graz Hanoi Havana Helsinki Jaipur Kazan Kiel Kyoto
        Lagos Leeds Lima Lisbon London Lyon Madrid Malmo Manila Milwaukee Mumbai Nairobi Naples Nice Osaka Oslo
        Paris Perth Porto Prague Quito Reno Riga Rome Salem Seoul Seville Sofia Sydney Tampa Tokyo Tulsa Tunis
        Turin Utrecht Venice Vienna Warsaw York Zagreb Zurich""".split(),
    "thing": """amber antique ash bamboo black blue bold brass bronze calm canvas cedar ceramic cherry classic cobalt
        comic cotton crimson crystal dark denim ebony emerald fancy floral fresh ginger gold granite green grey
        indigo ivory jade jazz lavender leather lemon lilac linen mahogany maple marble maroon mint modern navy
        oak olive orange pastel pearl pine pink plain plum purple quartz red retro rose round royal ruby rustic
        saffron satin scarlet silk silver simple smoky soft spicy square steel striped suede sweet teal velvet
        vintage violet walnut warm wavy white wool yellow""".split(),
}  # fmt: skip


def held_out(word: str) -> bool:
    """Does this word belong to the test side? One in four does, whether we listed it or invent it."""
    return zlib.crc32(word.lower().encode()) % 4 == 0


@cache
def words(kind: str, side: Side) -> tuple[str, ...]:
    """The listed words of a kind ("verb", "noun", "filler", "person", ... or "slot person", ...) on one side."""
    lists = {
        "verb": VERBS,
        "noun": NOUNS,
        "filler": FILLERS,
        **VALUES,
        **{f"slot {name}": slots for name, slots in SLOTS.items()},
    }
    return tuple(word for word in lists[kind] if held_out(word) == (side == "test"))


_ONSETS = "b d f g h j k l m n p r s t v w z br dr fl gr kr pl sk st tr".split()
_VOWELS = "aeiou"
_CODAS = ["", "", "", "l", "m", "n", "r", "s"]


def invent(rng: random.Random, side: Side) -> str:
    """A word that does not exist, on one side: of two simple syllables, or blended out of two listed words.

    Blends keep every piece of the vocabulary in use, so that an unseen word has no piece that is hardly known.
    """
    while True:
        if rng.random() < 0.5:
            word = "".join(rng.choice(letters) for letters in (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _CODAS))
        else:
            one, other = rng.choice(_LISTED), rng.choice(_LISTED)
            word = one[: rng.randint(2, 4)] + other[-rng.randint(2, 4) :]
        if held_out(word) == (side == "test") and word not in _TAKEN:
            return word


def garble(rng: random.Random, side: Side, said: Sequence[str]) -> str:
    """A word that is hard to copy, of parts of a listed word, of one said before, of itself, or of any letters.

    Whoever copies by what words look like, or by the last piece alone, fails in it: it has no usual
    shape, a piece may come twice, and a word said before may begin or go on like it.
    said: words in small letters.
    """
    while True:
        word = ""
        for _ in range(rng.randint(2, 4)):
            letters = "".join(rng.sample(string.ascii_lowercase, 3))
            source = rng.choice((rng.choice(_LISTED), rng.choice(said or _LISTED), letters, word or letters))
            start = rng.randrange(len(source))
            word += source[start : start + rng.randint(1, 4)]
        if held_out(word) == (side == "test") and word not in _TAKEN and len(set(word)) > 2 and len(word) <= 12:
            return word


# Words of our own sentences that the hash gives to the test side: invented words must not meet them.
SENTENCES = frozenset(
    """am could differ each entry false fields fill filled fits for from have help helps here id if label list
    need note object repeat should slots tell thank that thinking to when writes""".split()
)
_LISTED = sorted({word.lower() for words in (VERBS, NOUNS, *SLOTS.values(), *VALUES.values()) for word in words})
_TAKEN = frozenset(_LISTED) | SENTENCES | frozenset(FILLERS)
