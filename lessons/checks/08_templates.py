"""Checks of lesson 8: each calls what you wrote, and says what is wrong with it."""

import copy

from lesson import MODEL

import minifc


def merge_system(candidate):
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}
    model = {"role": "assistant", "content": "Hello."}
    given = [dict(system), dict(user), dict(model)]
    before = copy.deepcopy(given)
    found = candidate(given, "\n\n")
    assert [m["role"] for m in found] == ["user", "assistant"], f"the roles are now {[m['role'] for m in found]}"
    assert found[0]["content"] == "Be brief.\n\nHello.", f"the first message says {found[0]['content']!r}"
    assert found[1] == model, "the other messages stay as they are"
    assert given == before, "the messages you were given have changed; build new ones"
    assert candidate([user, model], "\n\n") == [user, model], "without a system message nothing changes"
    late = [user, system, model]
    assert candidate(late, "\n\n") == late, "one that does not come first is left where it is"


def learned_from(candidate):
    tokenizer = minifc.load_tokenizer(MODEL)
    messages = [
        {"role": "user", "content": "Say this:\nmodel\nand no more."},
        {"role": "assistant", "content": "model\nand no more."},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": "You are welcome."},
    ]
    rendered = minifc.render(messages, tokenizer, format="gemma")
    found = list(candidate(tokenizer, rendered.ids))
    assert len(found) == len(rendered.ids), f"{len(rendered.ids)} ids, and you say something of {len(found)}"
    learned = [id_ for id_, mask in zip(rendered.ids, found, strict=True) if mask]
    text = tokenizer.decode(learned)
    assert "<start_of_turn>" not in text, "the program opens the turn: its marker and role are not learned"
    assert "Say this" not in text, "the user's turn is not learned"
    assert "Thanks" not in text, "nor is the second"
    assert learned.count(tokenizer.control["<end_of_turn>"]) == 2, "each turn of the model ends with <end_of_turn>"
    assert [bool(mask) for mask in found] == rendered.mask, f"what is learned now reads {text!r}"


def escaped(candidate):
    assert candidate("Nina") == "<escape>Nina<escape>", "a string stands between two <escape>"
    assert candidate(12) == "12", "a number is written as it is"
    assert candidate(True) == "true", "True is written as in JSON: true"
    assert candidate({"a": "x", "b": 1}) == "{a:<escape>x<escape>,b:1}", "an object: its keys bare, no white space"
    assert candidate([1, "x"]) == "[1,<escape>x<escape>]", "a list stands in brackets"
    nested = {"singer": {"names": ["Nina", 'say "hi"'], "alive": False}}
    right = '{singer:{names:[<escape>Nina<escape>,<escape>say "hi"<escape>],alive:false}}'
    assert candidate(nested) == right, f"values inside values, and quotes inside strings: {right}"
