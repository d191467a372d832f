"""Verdicts of bfcl-eval's own checker: python bfcl_checker.py PACKAGE_FOLDER < cases.json > verdicts.json

Run in a process of its own. Of the package only the checker is used: what it imports besides, for Java, JavaScript
and the list of models, needs a hundred other packages and is replaced by empty modules.
"""

import json
import sys
import types

folder = sys.argv[1]
sys.path.insert(0, folder)
model = types.SimpleNamespace(underscore_to_dot=False)
for name, values in {
    "bfcl_eval.constants.model_config": {"MODEL_CONFIG_MAPPING": {"m": model}},
    "bfcl_eval.eval_checker.ast_eval.type_convertor.java_type_converter": {"java_type_converter": None},
    "bfcl_eval.eval_checker.ast_eval.type_convertor.js_type_converter": {"js_type_converter": None},
}.items():
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module

from bfcl_eval.constants.enums import Language  # noqa: E402
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker  # noqa: E402

verdicts = []
for case in json.load(sys.stdin):
    try:
        result = ast_checker(case["functions"], case["calls"], case["answers"], Language.PYTHON, case["category"], "m")
        verdicts.append(bool(result["valid"]))
    except Exception as error:
        verdicts.append(f"{type(error).__name__}: {error}")
json.dump(verdicts, sys.stdout)
