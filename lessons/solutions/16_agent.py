"""Solutions of lesson 16, and mistakes that its checks must find."""

import inspect
import typing

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
KINDS = {"string": str, "integer": int, "number": (int, float), "boolean": bool}


def schema(function):
    hints, properties, required = typing.get_type_hints(function), {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        literal = typing.get_origin(hint) is typing.Literal
        properties[name] = {"enum": list(typing.get_args(hint))} if literal else {"type": TYPES[hint]}
        if parameter.default is parameter.empty:
            required.append(name)
    parameters = {"type": "object", "properties": properties, "required": required}
    description = inspect.getdoc(function).split("\n")[0]
    return {"name": function.__name__, "description": description, "parameters": parameters}


def schema__requires_everything(function):
    made = schema(function)
    made["parameters"]["required"] = list(made["parameters"]["properties"])
    return made


def schema__says_the_whole_docstring(function):
    return schema(function) | {"description": inspect.getdoc(function)}


def schema__names_pythons_types(function):
    made = schema(function)
    for name, hint in typing.get_type_hints(function).items():
        if name in made["parameters"]["properties"] and "type" in made["parameters"]["properties"][name]:
            made["parameters"]["properties"][name] = {"type": hint.__name__}
    return made


def schema__takes_the_result_for_a_parameter(function):
    made = schema(function)
    made["parameters"]["properties"] |= {
        name: {"type": TYPES.get(hint, "object")}
        for name, hint in typing.get_type_hints(function).items()
        if name == "return"
    }
    return made


def fault(arguments, parameters):
    properties = parameters["properties"]
    for name in parameters["required"]:
        if name not in arguments:
            return f"{name} is missing"
    for name, value in arguments.items():
        if name not in properties:
            return f"{name} is unknown"
        described = properties[name]
        if "enum" in described and value not in described["enum"]:
            return f"{name} is not one of {described['enum']}"
        kind = described.get("type")
        if kind and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
            return f"{name} is no {kind}"
    return None


def fault__takes_true_for_a_number(arguments, parameters):
    for name, value in arguments.items():
        kind = parameters["properties"].get(name, {}).get("type")
        if isinstance(value, bool) and kind in ("integer", "number"):
            return None
    return fault(arguments, parameters)


def fault__refuses_every_boolean(arguments, parameters):
    for name, value in arguments.items():
        if isinstance(value, bool):
            return f"{name} is a boolean"
    return fault(arguments, parameters)


def fault__lets_unknown_ones_through(arguments, parameters):
    return fault({name: arguments[name] for name in arguments if name in parameters["properties"]}, parameters)


def fault__asks_for_all(arguments, parameters):
    return fault(arguments, parameters | {"required": list(parameters["properties"])})


def fault__refuses_whole_numbers(arguments, parameters):
    for name, value in arguments.items():
        if parameters["properties"].get(name, {}).get("type") == "number" and not isinstance(value, float):
            return f"{name} is no number"
    return fault(arguments, parameters)


def converse(say, tools, question, most_turns):
    messages = [{"role": "user", "content": question}]
    for _ in range(most_turns):
        message = say(messages)
        messages.append(message)
        if not message["tool_calls"]:
            break
        for call in message["tool_calls"]:
            try:
                result = tools[call["name"]](**call["arguments"])
            except Exception as error:
                result = {"error": f"{type(error).__name__}: {error}"}
            messages.append({"role": "tool", "content": result})
    return messages


def converse__goes_on_for_ever(say, tools, question, most_turns):
    return converse(say, tools, question, 1000)


def converse__gives_nothing_back_at_the_bound(say, tools, question, most_turns):
    messages = converse(say, tools, question, most_turns)
    return [] if messages[-1]["role"] == "tool" else messages


def converse__lets_errors_out(say, tools, question, most_turns):
    messages = [{"role": "user", "content": question}]
    for _ in range(most_turns):
        messages.append(say(messages))
        if not messages[-1]["tool_calls"]:
            break
        for call in messages[-1]["tool_calls"]:
            messages.append({"role": "tool", "content": tools[call["name"]](**call["arguments"])})
    return messages


def converse__forgets_the_models_own_turn(say, tools, question, most_turns):
    messages = [{"role": "user", "content": question}]
    for _ in range(most_turns):
        message = say(messages)
        if not message["tool_calls"]:
            return [*messages, message]
        for call in message["tool_calls"]:
            try:
                result = tools[call["name"]](**call["arguments"])
            except Exception as error:
                result = {"error": str(error)}
            messages.append({"role": "tool", "content": result})
    return messages


def converse__runs_the_first_call_only(say, tools, question, most_turns):
    def one(messages):
        message = say(messages)
        return message | {"tool_calls": message["tool_calls"][:1]}

    return converse(one, tools, question, most_turns)
