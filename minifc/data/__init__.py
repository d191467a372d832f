"""What a model learns from: files -> rows -> conversations -> examples -> packed batches."""

from minifc.data.audit import Audit as Audit
from minifc.data.audit import audit as audit
from minifc.data.conversations import Conversation as Conversation
from minifc.data.conversations import read_conversation as read_conversation
from minifc.data.conversations import read_conversations as read_conversations
from minifc.data.conversations import with_canonical_calls as with_canonical_calls
from minifc.data.examples import Draft as Draft
from minifc.data.examples import Example as Example
from minifc.data.examples import Examples as Examples
from minifc.data.examples import draft as draft
from minifc.data.examples import encode_drafts as encode_drafts
from minifc.data.examples import make_examples as make_examples
from minifc.data.packing import IGNORED as IGNORED
from minifc.data.packing import Batch as Batch
from minifc.data.packing import pack as pack
from minifc.data.rows import read_rows as read_rows
