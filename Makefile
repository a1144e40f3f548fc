# make            what there is to make
# make demo       see it work, in a throwaway network namespace
# make test       run everything that CI runs
# make test-vm    all scenes with the real pppd, in emulated guests with Debian 12 and 13: half an hour
# make test-fresh `make demo` and `make test` on bare Debian 12 and 13, as root and as a new user: SUITES, USERS, COMMANDS
# make bench      what an event costs, beside other ways: five minutes, figures into docs/figures.md
# make stress     10,000 events at random, and every point at which a hook can be cut off: SEED=.. EVENTS=.. if you like
# make man        man pages and shell completions, in target/man
# make install    what `make build man` has made, below PREFIX (/usr/local); make uninstall takes it away again
# make deb        a Debian package, in target/debian
# make test-deb   the package once more, with lintian; its hooks behind NetworkManager and networkd; whole systems booted

CARGO    ?= cargo
PROGRAMS  = mh-ip-up mh-ip-down mh-vpn-up mh-watch mhctl
TARGET    = $(or $(CARGO_TARGET_DIR),target)
HOST      = $(shell rustc -vV | sed -n 's/^host: //p')
DESTDIR   =
PREFIX    = /usr/local
# Tools of ours alone: built in a third of the time that their authors' flags take.
CARGO_DEB  = $(TARGET)/tools/bin/cargo-deb
CARGO_DENY = $(TARGET)/tools/bin/cargo-deny
DEB       = $(TARGET)/debian/*.deb
ADVISORIES = $(or $(CARGO_HOME),$(HOME)/.cargo)/advisory-dbs
# What `make test` does, in this order.
PARTS     = lint deny build deb test-executables test-cargo test-filters test-install test-guests test-package
# The tests whose packets travel, or that look at what rules do to packets.
TRAFFIC   = carrier:: conntrack:: drill flush:: kill_switch:: leaks:: no_gateway:: one_segment:: openvpn:: silent:: spares:: \
            sticky:: traffic:: vpn::
SCRIPTS   = tests/run-as-root tests/install-tools tests/check-executables tests/fresh .ci/run hooks/dhclient hooks/dhcpcd \
            hooks/NetworkManager hooks/networkd-dispatcher hooks/odhcp6c \
            tests/vm/run tests/vm/fetch tests/vm/guest/init tests/vm/guest/scene tests/vm/guest/lib.sh \
            tests/vm/guest/scenes etc-ppp/ip-up.local etc-ppp/ip-down.local \
            packaging/install packaging/debian/rename packaging/debian/ip-up packaging/debian/ip-down \
            packaging/debian/scripts/preinst packaging/debian/scripts/prerm packaging/debian/scripts/postrm \
            tests/install tests/deb tests/managers tests/boot \
            tests/bench/ip-up tests/bench/ip-down tests/bench/setup tests/bench/shorewall tests/bench/install
# Many tests wait most of the time.
export RUST_TEST_THREADS ?= $(shell echo $$(($$(nproc) * 3 / 2)))
EVENTS   ?= 10000
CASES     = $(or $(PROPTEST_CASES),20000)
ifndef SEED
SEED     := $(shell date +%s)
endif

.PHONY: help build man install uninstall deb demo test $(PARTS) advisories test-deb test-vm test-fresh stress bench tools rust clean

help:
	@sed -n 's/^# \(make.*\)/\1/p' $(firstword $(MAKEFILE_LIST))
	@echo 'make build      statically linked executables in target/release'
	@echo 'make lint       formatting, clippy (and whether rust-version has all that is used), rustdoc, shellcheck'
	@echo 'make deny       licences, bans, sources and advisories of dependencies'
	@echo 'make test-filters the tests with traffic once more, with iptables-nft and with legacy iptables'
	@echo 'make advisories the database of advisories, from GitHub'
	@echo 'make clean      remove what was made'

# The executables are built for an explicit target (see .cargo/config.toml) and linked to where
# people look for them.
build: | rust
	$(CARGO) build --release --locked --bins
	@for p in $(PROGRAMS); do ln -f $(TARGET)/$(HOST)/release/$$p $(TARGET)/release/$$p; done
	@cd $(TARGET)/release && ls -l $(PROGRAMS)

man: | rust
	$(CARGO) run --quiet --locked --example man -- $(TARGET)/man

# Builds only where nothing is built yet: `sudo make install` is not to leave root's files behind.
install: $(TARGET)/release/mhctl $(TARGET)/man/mhctl.8
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' packaging/install install $(TARGET)

uninstall:
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' packaging/install uninstall

$(TARGET)/release/mhctl:
	$(MAKE) build

$(TARGET)/man/mhctl.8:
	$(MAKE) man

# Cargo.toml says what goes where in the package.
deb: build man $(CARGO_DEB)
	rm -rf target/deb $(DEB)
	DESTDIR=target/deb PREFIX=/usr packaging/install install $(TARGET)
	packaging/debian/rename target/deb
	$(CARGO_DEB) --no-build --no-strip --locked

$(CARGO_DEB): TOOL = cargo-deb@3.8.0
$(CARGO_DENY): TOOL = cargo-deny@0.20.2
$(CARGO_DEB) $(CARGO_DENY): | rust
	$(CARGO) install --quiet --debug --locked --no-default-features --root $(TARGET)/tools $(TOOL)

# Licences, bans and sources of what becomes part of the executables, as deny.toml has them. Advisories where their
# database is: `make advisories` brings it, and asks nobody else.
deny: $(CARGO_DENY)
	$(CARGO) fetch --quiet --locked
	$(CARGO_DENY) --offline --log-level error check licenses bans sources
	@if ls -d '$(ADVISORIES)'/*/ >/dev/null 2>&1; then set -x; $(CARGO_DENY) --offline --log-level error check advisories; \
	else echo 'Advisories were not looked at: there is nothing in $(ADVISORIES). `make advisories` brings it.'; fi

advisories: $(CARGO_DENY)
	$(CARGO_DENY) fetch db

demo: build
	@$(TARGET)/release/mhctl demo

lint: tools | rust
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --no-deps --locked --lib
	shellcheck $(SCRIPTS)

# Says at the end how long each part took, or which one failed.
test: | rust
	@trap 'printf "%b" "$$times"' EXIT; for part in $(PARTS); do \
		start=$$(date +%s); said=failed; \
		if $(MAKE) --no-print-directory $$part; then said=passed; fi; \
		times="$$times$$(printf '%-16s %s %5d s' $$part $$said $$(($$(date +%s) - start)))\n"; \
		[ $$said = passed ] || exit 1; \
	done

test-executables: build
	tests/check-executables $(addprefix $(TARGET)/release/,$(PROGRAMS))

test-cargo: tools | rust
	$(CARGO) test --locked

# By default the rules are nftables'.
test-filters: tools | rust
	FIREWALL=iptables $(CARGO) test --locked --test it -- $(TRAFFIC)
	FIREWALL=legacy $(CARGO) test --locked --test it -- $(TRAFFIC)

# Of what `make build man` has made; it builds nothing.
test-install:
	tests/run-as-root tests/install

test-guests: tools | rust
	tests/vm/run --short

test-package: deb
	tests/run-as-root tests/deb $(DEB)

test-fresh:
	tests/install-tools mmdebstrap:mmdebstrap
	tests/run-as-root tests/fresh

test-deb: tools deb
	tests/install-tools lintian:lintian
	lintian --fail-on error,warning $(DEB)
	tests/run-as-root tests/deb $(DEB)
	tests/managers $(DEB)
	tests/boot $(DEB)

test-vm: tools
	tests/vm/run

# On a machine that does little else, or the spread is large.
bench: build tools
	tests/bench/install
	MULTIHOME_BENCH=$(abspath $(TARGET))/release $(CARGO) test --locked --test it -- bench:: --ignored --nocapture
	$(CARGO) run --release --locked --example health

stress: tools
	@echo 'Again: make stress SEED=$(SEED) EVENTS=$(EVENTS)'
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --profile stress --lib
	STRESS_SEED=$(SEED) STRESS_EVENTS=$(EVENTS) PROPTEST_CASES=$(CASES) $(CARGO) test --locked --profile stress --test it -- --nocapture \
		fuzz:: properties:: kill_switch:: stress:: crash:: faults:: crowd::

tools:
	tests/install-tools

# sudo hides ~/.cargo/bin; and what root builds here an ordinary user could not build again.
rust:
	@command -v $(CARGO) >/dev/null || { echo 'There is no $(CARGO) in PATH. Install Rust (https://rustup.rs) and run' \
		'make as the user who has it, without sudo: it asks sudo where root is needed.' >&2; exit 1; }

clean:
	$(CARGO) clean
