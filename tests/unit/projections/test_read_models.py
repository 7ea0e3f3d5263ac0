"""What every read model must keep, seen from its text alone."""

import re

import pytest

from events.codec import AnyFact
from projections.models import READ_MODELS
from projections.projection import Projection, Table

TABLES = [table for projection in READ_MODELS for table in projection.tables]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_workspace_leads_the_primary_key(table: Table):
    assert table.key[0] == "workspace"
    assert f"PRIMARY KEY ({', '.join(table.key)})" in table.ddl


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_workspace_leads_every_index(table: Table):
    for columns in re.findall(r"CREATE INDEX \w+ ON \w+ \(([^)]*)\)", table.ddl):
        assert columns.startswith("workspace")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_column_is_made_by_postgres(table: Table):
    assert not re.search(r"now\(\)|serial|IDENTITY|random|current_", table.ddl, re.IGNORECASE)


@pytest.mark.parametrize("projection", READ_MODELS, ids=lambda projection: projection.name)
def test_what_it_handles_are_facts_and_each_once(projection: Projection):
    handles = projection.handles or ()
    assert len(set(handles)) == len(handles)
    assert set(handles) <= set(AnyFact.__args__)


def test_names_are_given_once():
    assert len({projection.name for projection in READ_MODELS}) == len(READ_MODELS)
    assert len({table.name for table in TABLES}) == len(TABLES)
