#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the bound of every text and list in the request bodies of an instance's OpenAPI documents.

usage: request_bounds.py ROOM

One line each: "DOCUMENT METHOD PATH MEMBER KIND MAX". MEMBER is joined by dots; KIND is text, list or object. What is bounded by an enum or
a pattern is left out; MAX is 0 where there is no bound.
"""
import pathlib
import re
import sys

import yaml


def walk(document, schema, member, found):
    while "$ref" in schema:
        node = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        schema = node
    kind = schema.get("type")
    for choice in schema.get("oneOf", []) + schema.get("anyOf", []) + schema.get("allOf", []):
        walk(document, choice, member, found)
    if kind == "object":
        if not schema.get("properties") and member:
            found.append((member, "object", schema.get("x-max-bytes", 0)))
        for name, each in schema.get("properties", {}).items():
            walk(document, each, f"{member}.{name}" if member else name, found)
    elif kind == "array":
        found.append((member, "list", schema.get("maxItems", 0)))
        walk(document, schema["items"], member, found)
    elif kind == "string" and "enum" not in schema and not re.search(r"\{\d+(,\d+)?\}\$$", schema.get("pattern", "")):
        found.append((member, "text", schema.get("maxLength", 0)))


for name in ("openapi.yaml", "openapi-agents.yaml"):
    document = yaml.safe_load((pathlib.Path(sys.argv[1]) / name).read_text())
    for path, item in document["paths"].items():
        for method in sorted(set(item) & {"get", "put", "post", "delete"}):
            body = item[method].get("requestBody")
            if not body:
                continue
            found = []
            walk(document, body["content"]["application/json"]["schema"], "", found)
            for member, kind, most in found:
                print(name, method.upper(), path, member, kind, most)
