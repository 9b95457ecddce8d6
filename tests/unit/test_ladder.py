"""The ladder, with estimators and evidence made for it: which transform it ends at, and what it says of the way."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from samreg.constraints.model import Constraints
from samreg.errors import InputRefused
from samreg.estimation.base import Abstention, Candidate, Problem
from samreg.evidence import Evidence, Measure, Terms
from samreg.geometry import Grid, Volume
from samreg.ladder import EstimatorFailed, climb
from samreg.transforms import Affine, Transform, compose

TRUTH = 10.0  # mm along x


def shift(mm: float) -> Affine:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return Affine(matrix)


def place(transform: Transform) -> float:
    return float(transform.map_points(np.zeros((1, 3)))[0, 0])


@dataclass
class To:
    """Proposes a shift."""

    kind: str
    mm: float
    fitted_to: frozenset = frozenset()
    notes: tuple = ()
    asked: list = field(default_factory=list)

    def estimate(self, problem: Problem, start: Transform) -> Candidate:
        self.asked.append(place(start))
        problem.progress(0.5)
        return Candidate(shift(self.mm), f"a shift of {self.mm:g} mm", fitted_to=self.fitted_to, notes=self.notes)


@dataclass
class Answers:
    """Gives back what it was made with, or raises it."""

    kind: str
    answer: object

    def estimate(self, problem: Problem, start: Transform):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@dataclass
class NearTheTruth:
    """Evidence that knows the truth: the nearer, the better, with a noise of half a millimetre."""

    flaws: dict = field(default_factory=dict)
    unsupported: str = ""
    seconds: list = field(default_factory=list)

    def support(self, candidate: Candidate) -> str:
        return self.unsupported

    def terms(self, candidate: Candidate, kind: str) -> Terms:
        return Terms.of(candidate.fitted_to, kind, pictures=False)

    def evidence(self, candidate: Candidate, coarser: Transform, second: str) -> tuple[Evidence, Evidence]:
        self.seconds.append(second)
        return self._of(candidate.transform), self._of(coarser)

    def flaw(self, candidate: Candidate, kind: str) -> str:
        return self.flaws.get(place(candidate.transform), "")

    @staticmethod
    def _of(transform: Transform) -> Evidence:
        near = Measure(np.full(40, -abs(place(transform) - TRUTH)), 0.5)
        constant = Measure(np.ones(40), 0.1)
        return Evidence(near, constant, constant, constant, coverage=0.9)


PROBLEM = Problem(*[None] * 6)


def climbed(*estimators, examiner=None, **options):
    named = [(f"{n}:{estimator.kind}", estimator) for n, estimator in enumerate(estimators)]
    return climb(PROBLEM, named, examiner or NearTheTruth(), **options)


def outcomes(found) -> list[str]:
    return [step.outcome for step in found.steps]


def test_each_better_candidate_is_taken_and_the_next_one_starts_from_it():
    estimators = To("rigid", 5), To("affine", 8), To("deformable", 10)
    found = climbed(*estimators)
    assert place(found.best.transform) == 10
    assert found.best.kind == "deformable"
    assert {kind: place(t) for kind, t in found.stages.items()} == {"rigid": 5, "affine": 8, "deformable": 10}
    assert [estimator.asked for estimator in estimators] == [[0.0], [5.0], [8.0]]
    assert outcomes(found) == ["taken"] * 3
    assert [step.rests_on for step in found.steps] == [f"a shift of {mm} mm" for mm in (5, 8, 10)]
    assert not found.fallbacks
    assert len(found.decisions) == 3


@pytest.mark.parametrize("mm", [2.0, 5.0, 5.2], ids=["worse", "equal", "better by less than the noise tells"])
def test_a_candidate_that_is_not_better_leaves_the_one_before_in_place(mm):
    found = climbed(To("rigid", 5), To("affine", mm))
    assert (found.best.kind, place(found.best.transform)) == ("rigid", 5)
    assert outcomes(found) == ["taken", "refused"]
    (fallback,) = found.fallbacks
    assert fallback.startswith("affine → rigid: ")
    assert found.decisions[-1].startswith("The rigid transform stays and the affine transform is refused: ")


def test_of_several_of_one_kind_the_first_that_is_taken_ends_the_others():
    found = climbed(To("deformable", 4), To("deformable", 6), To("deformable", 10))
    assert place(found.best.transform) == 4
    assert outcomes(found) == ["taken", "not needed", "not needed"]


def test_a_refused_one_of_a_kind_is_no_fall_back_where_the_next_is_taken():
    found = climbed(To("rigid", 5), To("deformable", 0), To("deformable", 9))
    assert place(found.best.transform) == 9
    assert outcomes(found) == ["taken", "refused", "taken"]
    assert not found.fallbacks
    assert any("the deformable transform is refused" in decision for decision in found.decisions)


def test_a_coarser_kind_is_not_asked_once_a_finer_one_was_reached():
    late = To("rigid", 10)
    found = climbed(To("affine", 5), late)
    assert outcomes(found) == ["taken", "not needed"]
    assert not late.asked


def test_an_abstention_is_a_fall_back_with_its_reason():
    found = climbed(To("rigid", 5), Answers("affine", Abstention("3 pairs to fit")))
    assert outcomes(found) == ["taken", "abstained"]
    assert found.fallbacks == ("affine → rigid: 3 pairs to fit",)


def test_nothing_is_lost_where_a_finer_transform_was_reached():
    found = climbed(To("rigid", 5), Answers("affine", Abstention("3 pairs to fit")), To("deformable", 10))
    assert outcomes(found) == ["taken", "abstained", "taken"]
    assert found.fallbacks == ()


def test_an_identity_is_no_finding_where_an_estimator_cannot_respect_the_constraints():
    mask = Volume(np.ones((2, 2, 2), np.uint8), Grid.from_axes((2, 2, 2), (1.0, 1.0, 1.0)))
    asked = replace(PROBLEM, constraints=Constraints(fixed_mask=mask))
    within_noise, gives_up = To("rigid", 0.1), Answers("deformable", Abstention("it folds"))
    named = [("rigid", within_noise), ("deformable", gives_up)]
    assert climb(PROBLEM, named, NearTheTruth()).aligned
    assert not climb(asked, named, NearTheTruth()).aligned


def test_an_identity_is_no_finding_where_a_better_candidate_had_a_flaw():
    within_noise, better = To("rigid", 0.1), To("deformable", 10)
    assert climbed(within_noise).aligned
    assert not climbed(within_noise, better, examiner=NearTheTruth(flaws={10: "it bends a bone"})).aligned


def test_an_abstention_by_design_is_none():
    found = climbed(To("deformable", 0), Answers("deformable", Abstention("for pictures", by_design=True)))
    assert outcomes(found) == ["refused", "not needed"]
    assert [f for f in found.fallbacks if "pictures" in f] == []


def test_a_candidate_with_a_flaw_is_refused_however_near_it_is():
    found = climbed(To("rigid", 5), To("deformable", 10), examiner=NearTheTruth(flaws={10.0: "it folds"}))
    assert found.best.kind == "rigid"
    assert found.fallbacks == ("deformable → rigid: it folds",)


def test_candidates_that_no_pairs_support_are_refused():
    examiner = NearTheTruth(unsupported="2 regions pair up, too few to support it")
    found = climbed(To("rigid", 5), To("deformable", 10), examiner=examiner)
    assert found.best.kind == "identity"
    assert place(found.best.transform) == 0
    assert outcomes(found) == ["refused", "refused"]
    assert found.fallbacks[-1] == "deformable → identity: 2 regions pair up, too few to support it"
    assert found.rigid is not None


def test_a_candidate_fitted_to_local_correlation_is_judged_by_descriptors_alone():
    """Pairs neither carry it nor speak against it."""

    class Likes(NearTheTruth):
        @staticmethod
        def _of(transform):
            apart = abs(place(transform) - TRUTH)
            near, likeness = Measure(np.full(40, apart), 0.5), Measure(np.full(40, -apart), 0.5)
            return replace(NearTheTruth._of(transform), closeness=near, likeness=likeness, by_chance=20.0)

    examiner = Likes(unsupported="2 regions pair up, too few to support it")
    told = frozenset({"correlation"})
    found = climbed(To("rigid", 5), To("affine", 6, told), To("deformable", 10, told), examiner=examiner)
    assert outcomes(found) == ["refused", "taken", "taken"]
    assert examiner.seconds == ["likeness", "likeness"]
    assert outcomes(climbed(To("deformable", -3, told), examiner=examiner)) == ["refused"]


def test_support_is_asked_only_until_something_was_taken():
    examiner = NearTheTruth()
    rigid = To("rigid", 5)

    class Withdrawn(To):
        def estimate(self, problem, start):
            examiner.unsupported = "too few"
            return super().estimate(problem, start)

    assert climbed(rigid, Withdrawn("affine", 9), examiner=examiner).best.kind == "affine"


def test_mutual_information_does_not_judge_an_affine_that_was_fitted_to_it():
    examiner = NearTheTruth()
    told = frozenset({"information"})
    climbed(To("rigid", 5, told), To("affine", 8, told), To("affine", 8), To("deformable", 10), examiner=examiner)
    assert examiner.seconds == ["information", "likeness", "information"]
    examiner.seconds.clear()
    climbed(To("affine", 8), examiner=examiner)
    assert examiner.seconds == ["information"]


@pytest.mark.parametrize("labelled", [False, True])
def test_two_witnesses_tell_where_they_are_given_contours(labelled):
    class Two(NearTheTruth):
        @staticmethod
        def _of(transform):
            return replace(NearTheTruth._of(transform), closeness=Measure(np.full(2, place(transform)), 0.5))

    found = climb(replace(PROBLEM, labelled=labelled), [("one", To("rigid", 5))], Two())
    assert (found.best.kind == "rigid") == labelled


def test_notes_of_an_estimate_stand_among_the_decisions():
    assert climbed(To("rigid", 5, notes=("two alignments score alike",))).decisions[0] == "two alignments score alike"


@pytest.mark.parametrize(
    "answer",
    [ValueError("no such thing"), RuntimeError("broken"), None, shift(3), "a text"],
)
def test_an_estimator_that_breaks_off_or_answers_nonsense_is_named(answer):
    with pytest.raises(EstimatorFailed, match="estimator '1:affine'") as failed:
        climbed(To("rigid", 5), Answers("affine", answer))
    assert failed.value.exit_code == 1
    assert "a candidate with a transform of samreg, or an abstention" in failed.value.sentence
    if isinstance(answer, Exception):
        assert str(answer) in failed.value.sentence


class Mine(Transform):
    """A transform that no file can hold."""

    def map_tensor(self, points):
        return points

    def inverse(self):
        return self


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Candidate("not a transform", "nothing"), "'transform' of the candidate is 'not a transform'"),
        (lambda: Candidate(Mine(), "a guess"), "a Mine that no file can hold"),
        (lambda: Candidate(compose([shift(1), Mine()]), "a guess"), "a Mine that no file can hold"),
        (lambda: Candidate(shift(1), 5), "'rests_on' of the candidate is a int"),
        (lambda: Candidate(shift(1), ""), "'rests_on' of the candidate is ''"),
        (lambda: Candidate(shift(1), "a guess", fitted=[]), "'fitted' of the candidate is a list"),
        (lambda: Candidate(shift(1), "a guess", fitted_to={"information"}), "'fitted_to' of the candidate is a set"),
        (lambda: Candidate(shift(1), "a guess", fitted_to=frozenset({"luck"})), "'fitted_to' of the candidate"),
        (lambda: Candidate(shift(1), "a guess", rivals=float("nan")), "'rivals' of the candidate is nan"),
        (lambda: Candidate(shift(1), "a guess", mirrored="0.5"), "'mirrored' of the candidate is '0.5'"),
        (lambda: Candidate(shift(1), "a guess", notes="a sentence"), "'notes' of the candidate is 'a sentence'"),
        (lambda: Candidate(shift(1), "a guess", notes=(1,)), "'notes' of the candidate is a tuple"),
        (lambda: Abstention(None), "the reason of the abstention is None"),
        (lambda: Abstention(""), "the reason of the abstention is ''"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_when_it_is_made_and_names_its_estimator(make, said):
    class Careless:
        kind = "rigid"

        def estimate(self, problem, start):
            return make()

    with pytest.raises(EstimatorFailed, match="estimator '0:rigid' failed") as failed:
        climbed(Careless())
    assert said in failed.value.sentence
    assert failed.value.expected
    assert "correct it" in failed.value.next_step


@pytest.mark.parametrize(
    "error", [InputRefused("nothing there", reason="no-region"), MemoryError(), torch.OutOfMemoryError()]
)
def test_refusals_and_a_lack_of_memory_pass_as_they_are(error):
    with pytest.raises(type(error)):
        climbed(Answers("rigid", error))


@pytest.mark.parametrize(
    ("truth", "estimators", "aligned"),
    [
        (0.0, [To("rigid", 0.5)], True),
        (0.0, [To("rigid", 5), To("affine", 0.5)], True),
        (0.0, [To("rigid", 5)], False),
        (0.0, [Answers("rigid", Abstention("too few agree"))], False),
        (0.0, [Answers("rigid", Abstention("for pictures", by_design=True))], False),
        (0.0, [], False),
        (10.0, [To("rigid", -3), Answers("affine", Abstention("too few agree"))], False),
    ],
)
def test_the_identity_is_a_finding_only_where_a_fitted_candidate_is_as_good(truth, estimators, aligned):
    class Near(NearTheTruth):
        @staticmethod
        def _of(transform):
            near = Measure(np.full(40, -abs(place(transform) - truth)), 0.5)
            return replace(NearTheTruth._of(transform), closeness=near)

    found = climbed(*estimators, examiner=Near())
    assert (found.best.kind, found.aligned) == ("identity", aligned)


def test_a_flawed_or_unsupported_candidate_is_no_finding_however_good_it_is():
    for examiner in (NearTheTruth(flaws={0.5: "it folds"}), NearTheTruth(unsupported="too few pairs")):
        assert not climbed(To("rigid", 0.5), examiner=examiner).aligned


def test_nothing_to_climb_is_the_identity():
    found = climbed()
    assert (found.best.kind, place(found.best.transform), found.steps, found.rigid) == ("identity", 0.0, (), None)


def test_stages_are_opened_by_kind_and_told_of_progress():
    told = []

    @contextmanager
    def stage(name):
        told.append((name, "begins"))
        yield lambda share: told.append((name, share))
        told.append((name, "ends"))

    found = climbed(To("rigid", 5), To("rigid", 6), stage=stage)
    assert told == [("rigid", "begins"), ("rigid", 0.5), ("rigid", "ends")]
    assert found.steps[0].seconds > 0
