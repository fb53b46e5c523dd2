"""Packaging of objloc_ros: an ament_python package for colcon, an ordinary package for pip."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "objloc_ros"
SHARE = f"share/{NAME}"


def files_in(directory: str) -> list[str]:
    """Return the files of one directory, relative to this one."""
    return sorted(str(path) for path in Path(directory).iterdir() if path.is_file())


setup(
    name=NAME,
    version="0.1.0",
    description="Unsupervised object localization on ROS 2 camera topics",
    maintainer="objloc_ros maintainers",
    maintainer_email="maintainers@users.noreply.r-seed-7579a817.example",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "backbones/tiny/*",
            "evaluation/report/*.yaml",
            "evaluation/report/templates/*",
            "scenes/photographs/*",
            "training/*.yaml",
        ]
    },
    # What pip must add is pinned in requirements*.txt, the rest is rosdep's (package.xml): named here, it would make
    # every start of a node check pip's view of packages that apt installed.
    install_requires=["setuptools"],
    # colcon test runs pytest only for packages that say so here.
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", files_in("launch")),
        (f"{SHARE}/config", files_in("config")),
        (f"{SHARE}/config/nav2", files_in("config/nav2")),
    ],
    entry_points={
        "console_scripts": [
            "objloc = objloc_ros.cli.main:main",
            "found = objloc_ros.nodes.found:main",
            "discovery = objloc_ros.nodes.discovery:main",
            "segmentation = objloc_ros.nodes.segmentation:main",
            "locate = objloc_ros.nodes.locate:main",
            "perception = objloc_ros.nodes.perception:main",
            "image_source = objloc_ros.nodes.image_source:main",
        ],
    },
)
