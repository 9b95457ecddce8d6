"""Training is worth its time."""

from dataclasses import replace

from samreg.training.loop import Training
from tests.unit.test_training import SHORT, TINY


def test_a_training_gets_better():
    training = Training(replace(SHORT, steps=60), size=TINY)
    found = [training.advance() for _ in range(60)]
    for term in ("mask", "iou"):
        assert sum(line[term] for line in found[-10:]) < 0.85 * sum(line[term] for line in found[:10])
