# make            what there is to make
# make demo       see it work, in a throwaway network namespace
# make test       run everything that CI runs
# make test-vm    all scenes with the real pppd, in emulated guests with Debian 12 and 13: half an hour
# make stress     10,000 events at random, and every point at which a hook can be cut off: SEED=.. EVENTS=.. if you like
# make man        man pages and shell completions, in target/man

CARGO    ?= cargo
PROGRAMS  = mh-ip-up mh-ip-down mh-vpn-up mhctl
TARGET    = $(or $(CARGO_TARGET_DIR),target)
HOST      = $(shell rustc -vV | sed -n 's/^host: //p')
SCRIPTS   = tests/run-as-root tests/install-tools tests/check-executables .ci/run hooks/dhclient hooks/dhcpcd \
            hooks/NetworkManager hooks/networkd-dispatcher \
            tests/vm/run tests/vm/fetch tests/vm/guest/init tests/vm/guest/scene tests/vm/guest/lib.sh \
            tests/vm/guest/scenes etc-ppp/ip-up.local etc-ppp/ip-down.local
EVENTS   ?= 10000
ifndef SEED
SEED     := $(shell date +%s)
endif

.PHONY: help build man demo test test-vm stress lint tools clean

help:
	@sed -n 's/^# \(make.*\)/\1/p' $(firstword $(MAKEFILE_LIST))
	@echo 'make build      statically linked executables in target/release'
	@echo 'make lint       formatting, clippy, shellcheck'
	@echo 'make clean      remove what was made'

# The executables are built for an explicit target (see .cargo/config.toml) and linked to where
# people look for them.
build:
	$(CARGO) build --release --locked --bins
	@for p in $(PROGRAMS); do ln -f $(TARGET)/$(HOST)/release/$$p $(TARGET)/release/$$p; done
	@cd $(TARGET)/release && ls -l $(PROGRAMS)

man:
	$(CARGO) run --quiet --locked --example man -- $(TARGET)/man

demo: build
	@$(TARGET)/release/mhctl demo

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	shellcheck $(SCRIPTS)

test: lint build
	tests/check-executables $(addprefix $(TARGET)/release/,$(PROGRAMS))
	$(CARGO) test --locked
	tests/vm/run --short

test-vm: tools
	tests/vm/run

stress: tools
	@echo 'Again: make stress SEED=$(SEED) EVENTS=$(EVENTS)'
	STRESS_SEED=$(SEED) STRESS_EVENTS=$(EVENTS) PROPTEST_CASES=$(or $(PROPTEST_CASES),20000) $(CARGO) test --locked \
		--lib --test fuzz --test stress --test crash --test faults --test crowd -- --nocapture

tools:
	tests/install-tools

clean:
	$(CARGO) clean
