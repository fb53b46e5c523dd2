# make demo [IMAGE=photo.jpg|folder|video.mp4|0|scene]   see it work: camera, found, segmentation, recorder, over DDS
# make test [ARGS="-k found"] [JOBS=1]             run the tests, two files at a time
# make lint | resolve | bench [SMOKE=1] | setup | clean
# make gpu [PYTHON=python3] [WHEELS=folder]        is the GPU right, and how fast: 8 minutes (docs/gpu.md)
# make gpu-wheels WHEELS=folder [FOR=3.12]         fetches what make gpu needs on a machine without a network
#
# Each sets itself up in .venv on first use and costs nothing later: the demo in 5.5 GB, 3.3 of them CUDA's libraries
# (make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu: PyTorch without them), the rest in 6.7 GB. For machines
# without ROS; on a ROS 2 machine use colcon (README).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
IMAGE ?=
ARGS ?=
WHEELS ?=
JOBS ?= 2
SMOKE ?=
TORCH_INDEX ?=
OUT ?= demo_output

VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The environment's own ROS, not one that happens to be sourced; nothing leaves this machine.
unexport PYTHONPATH
ifdef AMENT_PREFIX_PATH
unexport LD_LIBRARY_PATH
endif
export AMENT_PREFIX_PATH := $(VENV)
export RMW_IMPLEMENTATION := rmw_fastrtps_cpp
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
ROS_DOMAIN_ID ?= 83
export ROS_DOMAIN_ID
# Fast DDS 2 reads the first, Fast DDS 3 the second.
export FASTRTPS_DEFAULT_PROFILES_FILE := $(CURDIR)/config/fastdds_shm.xml
export FASTDDS_DEFAULT_PROFILES_FILE := $(FASTRTPS_DEFAULT_PROFILES_FILE)

.PHONY: demo test lint resolve bench gpu gpu-wheels setup clean
.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(VENV)/.package
	@$(BIN)/objloc demo $(if $(IMAGE),--source "$(IMAGE)") --out "$(OUT)" $(ARGS)

test: setup
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Every requirements file, for every Python of ROS 2; nothing is installed.
resolve: setup
	@$(BIN)/python resource/resolve_requirements.py

BENCH := found discovery detector beside latency open_vocab exemplars locate exported rcnn evaluation bag fleet prelabel recurring

# This repository's documented figures, then the installed command (bench/RESULTS.md says what each measures).
bench: setup
	@for script in $(BENCH); do $(BIN)/python bench/$$script.py $(if $(SMOKE),--smoke); done
	@$(if $(SMOKE),$(BIN)/python bench/gpu.py --device cpu --smoke)
	@$(BIN)/objloc bench $(if $(SMOKE),--smoke)

# With PYTHON given, by that interpreter and its PyTorch, into which nothing is installed; else by .venv's.
GPU_PYTHON := $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))
GPU_SITE := $(CURDIR)/build/gpu_site
gpu gpu-wheels: export PYTHONPATH := $(GPU_SITE):$(CURDIR)
gpu: $(if $(filter file,$(origin PYTHON)),setup)
	@$(if $(WHEELS),"$(GPU_PYTHON)" bench/gpu_wheels.py install "$(WHEELS)" $(GPU_SITE))
	@"$(GPU_PYTHON)" bench/gpu.py $(ARGS)

FOR ?= 3.12
gpu-wheels:
	@"$(PYTHON)" bench/gpu_wheels.py fetch "$(or $(WHEELS),$(error WHEELS must name a folder))" --for "$(FOR)" $(ARGS)

clean:
	rm -rf .venv build install log dist *.egg-info demo_output objloc_bench .pytest_cache .mypy_cache .ruff_cache .hypothesis

setup: $(VENV)/.package $(VENV)/.development

CONSTRAINTS := $(wildcard constraints*.txt)
INTERFACES := $(wildcard resource/interfaces/*.py resource/interfaces/*/msg/*.msg)

# Installs a requirements file and tells of what is large. The second index may have a PyTorch that is preferred.
INSTALL = $(PIP) install --progress-bar off $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") \
	    -c constraints-bare.txt -r $(1) | \
	    awk '/(Downloading|Using cached) .*\([0-9.]+ [MG]B\)/ { size = $$(NF-1); sub(/\(/, "", size); \
	         if (size + 0 >= 20 || /GB\)/) { sub(/^ +/, ""); print "      " $$0; fflush() } } \
	         /^Installing collected/ { print "      unpacking"; fflush() }'

# An environment whose installation broke off lacks the stamp and is completed by the next run.
$(VENV)/.requirements: requirements.txt requirements-detect.txt requirements-bare.txt $(CONSTRAINTS)
	@resource/preflight.sh "$(PYTHON)" $(if $(wildcard $@),1,$(if $(TORCH_INDEX),4,8))
	@echo "[1/3] installing PyTorch and ROS 2 into .venv, some minutes; large downloads:"
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@$(call INSTALL,requirements-bare.txt)
	@touch $@

# What tests, linters, evaluation and benchmarks need on top.
$(VENV)/.development: $(VENV)/.requirements requirements-evaluation.txt requirements-dev.txt $(CONSTRAINTS)
	@echo "[+] installing what tests, linters and evaluation need on top"
	@$(call INSTALL,requirements-dev.txt)
	@touch $@

$(VENV)/.interfaces: $(VENV)/.requirements $(INTERFACES)
	@echo "[2/3] compiling the vision_msgs interfaces, up to a minute"
	@$(BIN)/python resource/interfaces/build_wheel.py
	@touch $@

# What colcon would install, for ros2 run and ros2 launch from the environment: share/ and lib/ lead back here. The
# directories are prerequisites because their entries are linked one by one (ros2 launch does not follow linked folders).
SHARE := $(VENV)/share/objloc_ros
$(VENV)/.package: $(VENV)/.interfaces setup.py setup.cfg package.xml launch config
	@echo "[3/3] installing objloc_ros, editable"
	@$(PIP) install --quiet --use-pep517 --no-deps --editable . 2> $(VENV)/editable.log || \
	    { cat $(VENV)/editable.log; exit 1; }
	@rm -rf $(SHARE) && mkdir -p $(SHARE)/{launch,config} $(VENV)/lib/objloc_ros
	@ln -s $(CURDIR)/package.xml $(SHARE)/
	@ln -s $(CURDIR)/launch/*.py $(SHARE)/launch/
	@ln -s $(CURDIR)/config/*.* $(SHARE)/config/
	@ln -sfn $(BIN)/{found,discovery,segmentation,locate,perception,image_source,objloc} $(VENV)/lib/objloc_ros/
	@cp resource/objloc_ros $(VENV)/share/ament_index/resource_index/packages/
	@touch $@
