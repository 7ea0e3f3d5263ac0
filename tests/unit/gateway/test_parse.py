"""What was asked, from bytes: pointers, NUL, repeats and nesting."""

from typing import Any

import msgspec
import pytest

from gateway.errors import Problem
from gateway.parse import asked, json_object, many_of, query
from gateway.problems import of_shape, pointer_of
from gateway.route import Route
from gateway.table import ROUTES


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    limit: int = 50
    label: tuple[str, ...] = ()


def test_path_query_and_body_become_one_struct() -> None:
    fields = query(b"limit=7&label=a%3Ab&label=c", many_of(Asked))
    assert asked(Asked, fields, path={"id": "run_1"}, strict=False) == Asked("run_1", 7, ("a:b", "c"))
    assert asked(Asked, json_object(b'{"limit":7,"label":["a"]}'), path={"id": "run_1"}) == Asked("run_1", 7, ("a",))
    assert json_object(b"  ") == {}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"limit": "7", "id": "x"}, "/limit"),
        ({"id": "x", "ID": "y"}, "/ID"),
        ({"id": "a\0b"}, "/id"),
        ({"id": "x", "label": ["a\0"]}, "/label"),
        ({}, "/id"),
        ({"id": "x", "label": [1]}, "/label/0"),
    ],
)
def test_a_field_that_breaks_a_rule_is_named(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Problem) as refused:
        asked(Asked, fields)
    assert refused.value.status == 422
    assert [fault.pointer for fault in refused.value.errors] == [pointer]
    assert refused.value.detail.startswith(pointer[1:].replace("/", "."))


def test_what_stands_in_the_path_stands_nowhere_else() -> None:
    with pytest.raises(Problem, match="stands in the path already"):
        asked(Asked, {"id": "other"}, path={"id": "run_1"})


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("$", ""),
        ("$.goal", "/goal"),
        ("$.plan.steps[3].gate.rework[0]", "/plan/steps/3/gate/rework/0"),
        ("$.labels[...]", "/labels/*"),
        ("$[...].a/b~c", "/*/a~1b~0c"),
    ],
)
def test_a_path_of_msgspec_is_a_json_pointer(path: str, pointer: str) -> None:
    assert pointer_of(path) == pointer


def test_a_shape_without_a_place_is_about_the_whole_body() -> None:
    problem = of_shape(msgspec.ValidationError("Expected `object`, got `array`"))
    assert (problem.detail, problem.errors[0].pointer) == ("Expected `object`, got `array`", "")


@pytest.mark.parametrize("text", [b"a=%ff", b"a=\xff", b"&".join(b"a%d=1" % n for n in range(300))])
def test_a_query_that_cannot_be_read_is_malformed(text: bytes) -> None:
    with pytest.raises(Problem) as refused:
        query(text, frozenset())
    assert refused.value.status == 400


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_operation_refuses_what_it_does_not_know_and_says_what_it_does(route: Route) -> None:
    assert route.asks.__struct_config__.forbid_unknown_fields
    assert set(route.path_fields) <= set(route.asks.__struct_fields__)
    assert route.summary
    assert route.handle or route.serve
