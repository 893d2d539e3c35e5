#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks real responses of an instance against its OpenAPI documents: a member that no schema names is an error, and so is a request without a response.

usage: check_answers.py ROOM ANSWERS [UNASKED…]

ROOM has the documents. ANSWERS: one JSON object a line, {"document", "method", "target", "type", "body"}. UNASKED: "POST /v1/x/{id}" that
these answers need not hold.
"""
import json
import pathlib
import re
import sys

import jsonschema
import yaml

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
FORMATS = jsonschema.FormatChecker(formats=())
FORMATS.checks("date-time")(lambda text: not isinstance(text, str) or DATE.fullmatch(text) is not None)


def strict(schema, document):
    """As JSON Schema: references put in, nullable as a type, objects closed where they name their members."""
    if isinstance(schema, list):
        return [strict(each, document) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        node = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        return strict(node, document)
    out = {name: strict(value, document) for name, value in schema.items()}
    if out.pop("nullable", False):
        out["type"] = [out["type"], "null"]
    if "properties" in out:
        out.setdefault("additionalProperties", False)
    return out


def operation_of(document, method, target):
    """(its name, the operation): the matching path with the fewest parameters, as in the instance's routing table."""
    path = target.split("?")[0]
    found = []
    for template, item in document["paths"].items():
        pattern = re.sub(r"\{[^}]*\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in item:
            found.append((template.count("{"), template, item[method.lower()]))
    if not found:
        return None, None
    _, template, operation = min(found, key=lambda each: each[:2])
    return f"{method} {template}", operation


def main():
    room, answers, unasked = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), set(sys.argv[3:])
    documents = {name: yaml.safe_load((room / name).read_text()) for name in ("openapi.yaml", "openapi-agents.yaml")}
    wrong, asked = [], set()
    for line in answers.read_text().splitlines():
        answer = json.loads(line)
        document = documents[answer["document"]]
        name, operation = operation_of(document, answer["method"], answer["target"])
        if name is None:
            wrong.append(f"{answer['method']} {answer['target']} is in no document")
            continue
        asked.add((answer["document"], name))
        content = operation["responses"]["200"]["content"]
        if answer["type"] not in content:
            wrong.append(f"{name}: it is {answer['type']}, not {' or '.join(content)}")
            continue
        if answer["type"] != "application/json":
            continue
        schema = strict(content["application/json"]["schema"], document)
        for error in jsonschema.Draft7Validator(schema, format_checker=FORMATS).iter_errors(json.loads(answer["body"])):
            wrong.append(f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    for name, document in documents.items():
        for path, item in document["paths"].items():
            for verb in set(item) & {"get", "put", "post", "delete"}:
                request = f"{verb.upper()} {path}"
                if (name, request) not in asked and request not in unasked:
                    wrong.append(f"{name}: {request} was not asked")
    print("\n".join(sorted(set(wrong))))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
