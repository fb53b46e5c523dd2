import pytest
from rclpy.qos import QoSPolicyKind, QoSProfile, QoSReliabilityPolicy

from objloc_ros.nodes import qos


def fields(profile):
    return profile.history.name, profile.depth, profile.reliability.name, profile.durability.name


def test_profiles_spell_all_four_fields_out():
    assert fields(qos.make_camera_profile()) == ("KEEP_LAST", 1, "BEST_EFFORT", "VOLATILE")
    assert fields(qos.make_output_profile(5)) == ("KEEP_LAST", 5, "RELIABLE", "VOLATILE")
    assert set(qos.allow_overrides().policy_kinds) == {
        QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY,
    }  # fmt: skip


class Graph:
    """The one question about the graph that the message asks, with a publisher in it."""

    def get_publishers_info_by_topic(self, topic):
        profile = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        return [type("Info", (), {"node_namespace": "/front", "node_name": "camera", "qos_profile": profile})()]


@pytest.mark.parametrize(
    ("policy", "name", "fix"),
    [(QoSPolicyKind.RELIABILITY, "reliability", "best_effort"), (QoSPolicyKind.DURABILITY, "durability", "volatile")],
)
def test_an_incompatible_publisher_is_one_line_with_the_fix(policy, name, fix):
    line = qos.explain_incompatible_publisher(Graph(), "/front/image", QoSProfile(depth=1), policy)
    assert "\n" not in line
    assert "'/front/image'" in line
    assert "/front/camera (best_effort volatile)" in line
    assert f"'qos_overrides./front/image.subscription.{name}' to '{fix}'" in line


def test_an_incompatible_subscriber_is_one_line_with_the_fix():
    line = qos.explain_incompatible_subscriber("/found/mask", qos.make_output_profile(1), QoSPolicyKind.DURABILITY)
    assert "'/found/mask'" in line
    assert "reliable volatile" in line
    assert "qos_overrides./found/mask.publisher.durability" in line


@pytest.mark.parametrize(
    ("middleware", "profile", "words"),
    [
        ("rmw_fastrtps_cpp", "", ("512 KB", "config/fastdds_shm.xml")),
        ("rmw_fastrtps_cpp", "/my/profile.xml", ("/my/profile.xml", "was it started with")),
        ("rmw_cyclonedds_cpp", "", ("is the camera running",)),
    ],
)
def test_a_silent_publisher_gets_the_advice_for_its_middleware(monkeypatch, middleware, profile, words):
    monkeypatch.setattr(qos, "get_rmw_implementation_identifier", lambda: middleware)
    for name in qos.PROFILE_VARIABLES:
        monkeypatch.setenv(name, profile)
    line = qos.explain_silent_publisher("/image", 2, 4.2)
    assert line.startswith("2 publisher(s) of '/image' but no frame for 4 s")
    assert all(word in line for word in words)
    assert ("fastdds_shm" in line) == (middleware == "rmw_fastrtps_cpp" and not profile)
