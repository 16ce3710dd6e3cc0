"""What many tests of the scheduler are driven by."""

import pytest

from lrpilot.policy_file.bundle import Bundle
from user_training import drawn_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return drawn_policy(tmp_path_factory.mktemp("policy") / "policy.onnx")
