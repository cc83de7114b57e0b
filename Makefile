# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint unit integration molecule test-kernels bench build docs clean

export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin
# Settings of the caller's own Ansible do not leak into ours.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

setup: ## everything that the other targets need; quick when it is there already
	@tools/setup

demo: ## watch a playbook find stuck connections and destroy just those
	@tools/setup demo
	@tools/demo

test: setup ## lint, unit and integration tests, and the hosts of molecule
	@tools/test

lint: setup ## every static check (one: tools/lint NAME)
	@tools/lint

unit: setup ## tests that need neither root nor a network
	@tools/test unit

integration: setup ## tests on the real kernel and through Ansible
	@tools/test kernel integration

molecule: setup ## modules and roles over ssh on Debian 11, 12 and 13 (root only)
	@tools/test molecule

test-kernels: ## the core's tests on other kernels, emulated (not part of make test)
	@tools/setup kernels
	@tools/test-kernels

bench: setup ## speed and memory, side by side with ss
	@tools/in-userns python tests/bench/run.py

build: setup ## the collection's tarball and the core's wheel, into .build/dist
	@tools/build

docs: setup ## the manual as HTML, into .build/docs
	@python tools/site.py

clean: ## remove what the other targets made
	@rm -rf .build .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible
