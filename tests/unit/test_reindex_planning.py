"""Into which collection a model's vectors go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.app.reindex.planning import Options, Plan, plan, require_sense
from pixtail.core.errors import UsageError

OLD, NEW = "f00d", "beef"


def test_a_new_model_gets_a_collection_of_its_own() -> None:
    assert plan(NEW, OLD, None, [OLD], Options()) == Plan(NEW, OLD)


def test_without_any_collection_it_makes_the_first() -> None:
    assert plan(NEW, None, None, [], Options()) == Plan(NEW, None)


def test_what_an_attempt_has_left_is_continued() -> None:
    assert plan(NEW, OLD, None, [NEW, OLD], Options()) == Plan(NEW, OLD)


def test_the_way_back_to_a_former_model_uses_what_is_left_of_it() -> None:
    assert plan(OLD, NEW, OLD, [NEW, OLD], Options()) == Plan(OLD, NEW)


def test_a_limit_swaps_nothing() -> None:
    assert plan(NEW, OLD, None, [OLD], Options(limit=5)) == Plan(NEW, OLD, swaps=False)


def test_the_same_model_again_is_refused_with_what_one_may_have_meant() -> None:
    with pytest.raises(UsageError) as error:
        plan(OLD, OLD, None, [OLD], Options())
    assert {"--force", "--only-missing", "--model"} <= {word.strip(",;") for word in error.value.remedy.split()}


def test_by_force_the_same_model_is_built_anew_beside_itself() -> None:
    assert plan(OLD, OLD, None, [OLD], Options(force=True)) == Plan("f00d-2", OLD)
    assert plan(OLD, "f00d-2", OLD, [OLD, "f00d-2"], Options(force=True)) == Plan("f00d-3", "f00d-2")
    assert plan(OLD, "f00d-2", None, ["f00d-2"], Options(force=True)) == Plan(OLD, "f00d-2")


def test_what_was_begun_by_force_is_continued_without_it() -> None:
    assert plan(OLD, OLD, NEW, [NEW, OLD, "f00d-2"], Options()) == Plan("f00d-2", OLD)
    with pytest.raises(UsageError):  # it was left by a rollback, and no attempt
        plan(OLD, OLD, "f00d-2", [OLD, "f00d-2"], Options())


def test_by_force_what_an_attempt_has_left_is_dropped() -> None:
    assert plan(NEW, OLD, None, [NEW, OLD], Options(force=True)) == Plan("beef-2", OLD, obsolete=(NEW,))


def test_missing_points_are_filled_into_the_collection_that_is_searched() -> None:
    assert plan(OLD, OLD, None, [OLD], Options(only_missing=True)) == Plan(OLD, OLD, swaps=False)
    with pytest.raises(UsageError, match=f"{OLD}.*another model.*--model"):
        plan(NEW, OLD, None, [OLD], Options(only_missing=True))
    with pytest.raises(UsageError, match=r"none yet.*pixtail run"):
        plan(NEW, None, None, [], Options(only_missing=True))


@pytest.mark.parametrize("options", [Options(only_missing=True, force=True), Options(only_missing=True, limit=5)])
def test_options_that_contradict_each_other_are_refused(options: Options) -> None:
    with pytest.raises(UsageError, match=r"--only-missing fills|--limit is for a trial"):
        require_sense(options)


def test_an_adopted_collection_may_be_left_for_one_of_our_own() -> None:
    assert plan(NEW, "", None, [], Options()) == Plan(NEW, "")


generations = st.builds(
    lambda model, number: model if number == 1 else f"{model}-{number}", st.sampled_from([OLD, NEW]), st.integers(1, 4)
)


@given(st.sampled_from([OLD, NEW]), st.lists(generations, min_size=1, unique=True), st.booleans(), st.data())
def test_the_current_collection_is_never_written_anew_and_never_dropped(
    model: str, there: list[str], force: bool, data: st.DataObject
) -> None:
    current = data.draw(st.sampled_from(there))
    previous = data.draw(st.sampled_from([None, *(name for name in there if name != current)]))
    try:
        made = plan(model, current, previous, there, Options(force=force))
    except UsageError:
        return
    assert made.generation != current
    assert made.generation.partition("-")[0] == model
    assert not {current, previous, made.generation} & set(made.obsolete)
    assert not force or made.generation not in there
