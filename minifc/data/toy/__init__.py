"""The small world that weights/tiny lives in: words, requests, and the texts of all three stages.

words: what there is to talk about, and which of it is held out for tests
world: tasks and requests for them
texts: what the embedded model is pretrained on (plain text, then chats): no tools
cases: what it is fine-tuned and examined on: conversations with tools
"""

from minifc.data.toy.cases import Case as Case
from minifc.data.toy.cases import Sentences as Sentences
from minifc.data.toy.cases import held_out_cases as held_out_cases
from minifc.data.toy.cases import training_cases as training_cases
from minifc.data.toy.texts import chat_document as chat_document
from minifc.data.toy.texts import text_document as text_document
