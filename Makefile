# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint unit integration molecule salt test-kernels bench build docs clean

export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin
# Ignore the Ansible settings of the user.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

setup: ## install what the other targets need (quick if it is installed)
	@tools/setup

demo: ## watch a playbook find stuck connections and destroy only those
	@tools/setup demo
	@tools/demo

test: setup ## lint, unit and integration tests, and the hosts of molecule
	@tools/test

lint: setup ## all static checks (a single one: tools/lint NAME)
	@tools/lint

unit: setup ## tests without root and without network
	@tools/test unit

integration: setup ## tests on the real kernel and through Ansible
	@tools/test kernel integration

molecule: setup ## modules and roles over ssh on Debian 11, 12 and 13 (root only)
	@tools/test molecule

salt: setup ## tests of the Salt extension
	@tools/test salt

test-kernels: ## tests of the core on other, emulated kernels (not part of make test)
	@tools/setup kernels
	@tools/test-kernels

bench: setup ## measure speed and memory, in comparison with ss
	@tools/in-userns python tests/bench/run.py

build: setup ## build the tarball of the collection and the wheels in .build/dist
	@tools/build

docs: setup ## build the manual as HTML in .build/docs
	@python tools/site.py

clean: ## remove what the other targets created
	@rm -rf .build .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible
