"""The chat template as Jinja, so that transformers, vLLM and TRL render what minifc renders.

The same ids and the same loss mask as template.render gives, for structured messages. One thing
Jinja can't do: it writes one string, in which a spelled `<end_of_turn>` is the real one. So content
that spells a control token is refused here, where render keeps it as text.
"""

import json
import re
from collections.abc import Sequence

from minifc.text.calls import TAGS
from minifc.text.template import COURSE_THINK, FIELDS, ROLE_NAMES, SPEAKERS, TOOLS_INTRODUCTION, TURN_ENDS, Format

_TEMPLATE = """
{%- set speakers = SPEAKERS %}
{%- set roles = ROLES %}
{%- set known = FIELDS %}
{%- set ns = namespace(system=none, text='', written='', calls=[], results=0) %}
{%- macro data(text) %}
    {%- for marker in MARKERS %}
        {%- if marker in text %}{{ raise_exception('content spells the control token ' ~ marker) }}{% endif %}
    {%- endfor %}
    {{- text }}
{%- endmacro %}
{%- macro content_of(message) %}
    {%- set content = message.content %}
    {%- if content is string %}{{ data(content) }}
    {%- elif not content and (message.tool_calls or message.thinking or message.reasoning_content) %}
    {%- elif content is sequence and content is not mapping and content %}
        {%- for part in content if part.type != 'text' %}{{ raise_exception('content is not text') }}{% endfor %}
        {{- data(content | map(attribute='text') | join) }}
    {%- else %}{{ raise_exception('content is not a string') }}
    {%- endif %}
{%- endmacro %}
{%- macro of_integers(schema) %}
    {%- set kinds = [schema['type']] if schema['type'] is string else schema['type'] or [] %}
    {{- 'yes' if 'integer' in kinds and 'number' not in kinds }}
{%- endmacro %}
{%- macro written(value, schema) %}
    {%- set it = namespace(schema=schema if schema is mapping else {}, keys=[], parts=[]) %}
    {%- set options = it.schema['anyOf'] %}
    {%- if options is defined and options is sequence and options is not string and options is not mapping %}
        {%- set it.schema = none %}
        {%- for option in options %}
            {%- if it.schema is not none or option is not mapping %}
            {%- elif value is mapping and option['properties'] is mapping %}
                {%- if value.keys() | reject('in', option['properties'].keys() | list) | list | length == 0 %}
                    {%- set it.schema = option %}
                {%- endif %}
            {%- elif value is sequence and value is not string and value is not mapping and option['type'] == 'array' %}
                {%- set it.schema = option %}
            {%- elif value is float and value == value | int and of_integers(option) %}
                {%- set it.schema = option %}
            {%- endif %}
        {%- endfor %}
        {%- set it.schema = it.schema or {} %}
    {%- endif %}
    {%- if schema is not mapping %}{{ value | tojson }}
    {%- elif value is mapping %}
        {%- set listed = it.schema['properties'] if it.schema['properties'] is mapping else {} %}
        {%- for key in listed if key in value %}{% set it.keys = it.keys + [key] %}{% endfor %}
        {%- for key in value if key not in listed %}{% set it.keys = it.keys + [key] %}{% endfor %}
        {%- for key in it.keys %}
            {%- set inner = listed[key] if key in listed else it.schema['additionalProperties'] %}
            {%- set it.parts = it.parts + [(key | tojson) ~ ': ' ~ written(value[key], inner)] %}
        {%- endfor %}
        {{- '{' ~ (it.parts | join(', ')) ~ '}' }}
    {%- elif value is sequence and value is not string %}
        {%- for item in value %}
            {%- set it.parts = it.parts + [written(item, it.schema['items'])] %}
        {%- endfor %}
        {{- '[' ~ (it.parts | join(', ')) ~ ']' }}
    {%- elif value is float and value == value | int and of_integers(it.schema) %}{{ value | int }}
    {%- else %}{{ value | tojson }}
    {%- endif %}
{%- endmacro %}
{%- macro call_of(call) %}
    {%- set call = call.function if call.function is defined else call %}
    {%- set arguments = call.arguments if call.arguments is defined else {} %}
    {%- for field in call %}
        {%- if field not in ['name', 'arguments', 'id', 'type'] and call[field] is not none %}
            {{- raise_exception('unknown field ' ~ field ~ ' of a call') }}
        {%- endif %}
    {%- endfor %}
    {%- if arguments is not mapping %}{{ raise_exception('arguments of a call are an object') }}{% endif %}
    {%- set found = namespace(schema={}) %}
    {%- for tool in tools or [] %}
        {%- set tool = tool.function if tool.function is defined else tool %}
        {%- if tool.name == call.name %}{% set found.schema = tool.parameters %}{% endif %}
    {%- endfor %}
    {{- data('{"name": ' ~ (call.name | tojson) ~ ', "arguments": ' ~ written(arguments, found.schema) ~ '}') }}
{%- endmacro %}
{{- bos_token }}
{%- if tools %}
    {%- set ns.written = '' %}
    {%- for tool in tools %}
        {%- set tool = tool.function if tool.function is defined else tool %}
        {%- set ns.written = ns.written ~ '\\n' ~ data(tool | tojson) %}
    {%- endfor %}
    {%- set ns.system = INTRODUCTION ~ '<tools>' ~ ns.written ~ '\\n</tools>' %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in speakers %}{{ raise_exception('unknown role ' ~ message.role) }}{% endif %}
    {%- set speaker = speakers[message.role] %}
    {%- for field in message if field not in known and message[field] is not none %}
        {{- raise_exception('unknown field ' ~ field) }}
    {%- endfor %}
    {%- if speaker != 'model' and (message.tool_calls or message.thinking or message.reasoning_content) %}
        {{- raise_exception('only a model thinks and calls') }}
    {%- endif %}
    {%- if speaker != 'tool' or not message.tool_call_id %}
        {%- set ns.calls = (message.tool_calls or []) | selectattr('id', 'string') | map(attribute='id') | list %}
        {%- set ns.results = 0 %}
        {%- if ns.calls | unique | list | length != (message.tool_calls or []) | length %}
            {%- set ns.calls = [] %}
        {%- endif %}
    {%- elif ns.calls %}
        {%- if message.tool_call_id != ns.calls[ns.results] %}
            {{- raise_exception('results stand in the order of their calls') }}
        {%- endif %}
        {%- set ns.results = ns.results + 1 %}
    {%- endif %}
    {%- if speaker == 'system' %}
        {%- if not loop.first %}{{ raise_exception('a system message can only come first') }}{% endif %}
        {%- set ns.system = content_of(message) ~ ('\\n\\n' ~ ns.system if ns.system is not none else '') %}
    {%- elif speaker == 'user' %}
        {%- set ns.text = content_of(message) %}
        {%- if ns.system is not none %}
            {%- set ns.text = ns.system ~ BETWEEN ~ ns.text %}
            {%- set ns.system = none %}
        {%- endif %}
        {{- '<start_of_turn>' ~ roles.user ~ '\\n' ~ (ns.text | trim) ~ END ~ '\\n' }}
    {%- elif ns.system is not none %}
        {{- raise_exception('after a system message or tools the user speaks') }}
    {%- elif speaker == 'tool' %}
        {%- set result = message.content if message.content is defined else none %}
        {%- set result = result if result is string else result | tojson %}
        {%- set joined = roles.tool != 'tool' %}
        {%- if joined and not loop.first and speakers[loop.previtem.role] == 'tool' %}{{ '\\n' }}
        {%- else %}{{ '<start_of_turn>' ~ roles.tool ~ '\\n' }}
        {%- endif %}
        {{- '<tool_response>\\n' ~ (data(result) | trim) ~ '\\n</tool_response>' }}
        {%- if not (joined and not loop.last and speakers[loop.nextitem.role] == 'tool') %}
            {{- END ~ '\\n' }}
        {%- endif %}
    {%- else %}
        {%- set ns.text = content_of(message) | trim %}
        {%- set thinking = message.thinking or message.reasoning_content %}
        {%- set ns.written = '<think>' ~ (data(thinking) | trim) ~ '</think>' if thinking else '' %}
        {%- set ns.written = ns.written ~ ns.text %}
        {%- for call in message.tool_calls or [] %}
            {%- if ns.text or not loop.first %}{% set ns.written = ns.written ~ '\\n' %}{% endif %}
            {%- set ns.written = ns.written ~ '<tool_call>\\n' ~ call_of(call) ~ '\\n</tool_call>' %}
        {%- endfor %}
        {{- '<start_of_turn>model\\n' }}
        {%- generation %}{{ ns.written ~ END }}{% endgeneration %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if ns.system is not none %}{{ raise_exception('no user message for the system message and tools') }}{% endif %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""


def chat_template(format: Format, control: Sequence[str]) -> str:
    """The template of a format; `control` are the tokens that content may not spell."""
    markers = [*dict.fromkeys(name for name in (*TAGS, *control) if not name.startswith("<unused")), "<unused"]
    values = {
        "SPEAKERS": SPEAKERS,
        "ROLES": ROLE_NAMES[format],
        "FIELDS": sorted(FIELDS),
        "MARKERS": markers,
        "INTRODUCTION": TOOLS_INTRODUCTION,
        "BETWEEN": COURSE_THINK if format == "course" else "\n\n",
        "END": "".join(TURN_ENDS[format]),
    }
    # All in one pass: a token may be called <END>.
    return re.sub("|".join(values), lambda match: json.dumps(values[match.group()]), _TEMPLATE.strip())
