# hostport: build, show, test, install. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

PREFIX   ?= /usr/local
DESTDIR  ?=
# Where podman and CRI-O look for hooks by default.
HOOKSDIR ?= /usr/share/containers/oci/hooks.d
UNITDIR  ?= $(PREFIX)/lib/systemd/system
# Where runtimes look for CNI plugins; Debian's own look in /usr/lib/cni.
CNIDIR ?= /opt/cni/bin
# The folder of containerd's configuration.
CONTAINERDDIR ?= /etc/containerd
# The folder of zsh's completions; in Debian's packages it is vendor-completions.
ZSHDIR   ?= site-functions
# KERNELS: the kernels that `make vm-test` boots (all if empty). ARGS: more arguments for vm-test, bench and bench-quick.
KERNELS  ?=
ARGS     ?=
# How long `make fuzz` runs each target.
SECONDS  ?= 600

# How many tests run at once. Most of them wait for a process, a packet or the kernel.
TEST_THREADS ?= $(shell echo $$((5 * $$(nproc))))

CARGO  ?= cargo
# Asked for when a recipe needs it, after xtask/install-packages.
TARGET  = $(eval TARGET := $(shell dist/triple))$(TARGET)
STATIC := $(or $(CARGO_TARGET_DIR),target)/static
BINARY := $(STATIC)/hostport

# Statically linked at a fixed address, so nothing is loaded or relocated before main. Without unwinding tables. Paths in
# panic messages do not depend on the folder of the sources.
STATIC_FLAGS := -C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,-T,hook/static.ld \
	--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/hostport
# $(call static,PACKAGE,PROGRAM): builds $(STATIC)/PROGRAM.
static = CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_RUSTFLAGS="$(STATIC_FLAGS)" \
	$(CARGO) build --release --locked --package $(1) --bin $(2) --target $(TARGET) && \
	mkdir -p $(STATIC) && ln -f $(dir $(STATIC))$(TARGET)/release/$(2) $(STATIC)/$(2)

include dist/packages.mk
include dist/kubernetes/deploy.mk

.PHONY: help compiler build demo test monitoring-test graphs vm-test endurance check bench bench-quick fuzz reference docs package-contents install install-manual install-containerd uninstall uninstall-manual uninstall-containerd clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

compiler:
	@xtask/install-packages build

build: compiler ## Build the static binary
	$(call static,hostport-hook,hostport)
	@ls -l $(BINARY)

demo: build ## Run the worked example, and show its output
	@xtask/install-packages test
	HOSTPORT=$(abspath $(BINARY)) $(CARGO) run --quiet --locked --package hostport-tests --bin demo

TESTS := $(CARGO) test --features hostport-nft/nftnl --locked

# The binary is linked on one processor; meanwhile the tests compile on the others. Incremental compilation would take
# a quarter longer where nothing is compiled yet.
test: export CARGO_INCREMENTAL := 0
test: ## Run all tests (as root: they make network namespaces)
	@xtask/install-packages build
	@xtask/install-packages test
	trap wait EXIT; $(MAKE) --no-print-directory build & $(TESTS) --no-run; wait $$!
	HOSTPORT=$(abspath $(BINARY)) RUST_TEST_THREADS=$(TEST_THREADS) $(TESTS) --no-fail-fast

endurance: build ## Run the long tests (as root): thousands of races and containers, every system call killed and failed
	@xtask/install-packages test
	HOSTPORT_SCHEDULES=1000 $(CARGO) test --profile harness --locked --package hostport-hook --lib simulation:: -- --nocapture
	HOSTPORT=$(abspath $(BINARY)) HOSTPORT_ENDURANCE=1 PROPTEST_CASES=400 \
		$(CARGO) test --locked --package hostport-tests --no-fail-fast --test all \
		-- races:: endurance:: model:: cni:: tables_are_replaced --nocapture --test-threads 1
	HOSTPORT=$(abspath $(BINARY)) $(CARGO) test --locked --package hostport-tests --no-fail-fast --test all \
		-- crash:: faults:: firewalls:: endurance:: containerd:: --nocapture --ignored

monitoring-test: build ## Check alerts, dashboard and metrics with a real Prometheus (as root)
	@xtask/install-packages monitoring
	HOSTPORT=$(abspath $(BINARY)) $(CARGO) test --locked --package hostport-tests --test all prometheus:: -- --ignored

graphs: build ## Draw docs/graphs.svg: the dashboard's queries in a real Prometheus, over 90 seconds (as root)
	@xtask/install-packages monitoring
	HOSTPORT=$(abspath $(BINARY)) $(CARGO) xtask graphs

vm-test: build ## Run the tests on other kernels, in virtual machines (KERNELS="5.10 6.1", ARGS="--help"): docs/kernels.md
	@xtask/install-packages vm
	$(call static,hostport-vm-tests,vm-guest)
	$(if $(ARGS),,$(CARGO) test --quiet --locked --package hostport-vm-tests --test broken_machines -- --ignored)
	$(CARGO) run --quiet --locked --package hostport-vm-tests -- $(KERNELS) $(ARGS)

check: ## Check formatting, layers, clippy, rustdoc, licences, the docs' links and generated pages
	@xtask/install-packages check
	@xtask/check-licences
	$(CARGO) fmt --all --check
	$(CARGO) test --quiet --profile dev --package hostport-xtask --locked
	$(CARGO) clippy --workspace --all-targets --features hostport-nft/nftnl --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --features hostport-nft/nftnl --locked

# It has its own profile: optimised, and a panic unwinds, so that namespaces are removed.
BENCH := HOSTPORT=$(abspath $(BINARY)) STATIC_FLAGS="$(subst hook/static.ld,$(CURDIR)/hook/static.ld,$(STATIC_FLAGS))" \
	$(CARGO) run --quiet --profile harness --locked --package hostport-bench --

bench: build ## Compare with the peers, and write docs/benchmarks.md (as root; half an hour, ARGS="--only PART")
	@xtask/install-packages bench
	$(BENCH) $(ARGS)

bench-quick: build ## Compare with bench/baseline.json in three minutes (ARGS=--store writes a new one)
	@xtask/install-packages bench
	$(BENCH) --quick $(ARGS)

fuzz: ## Fuzz the parsers, each target for SECONDS (600): docs/fuzzing.md
	@xtask/install-packages fuzz
	@cargo fuzz --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-fuzz
	@cd fuzz && for target in $$($(CARGO) fuzz list); do \
		echo "== $$target"; \
		mkdir -p target/corpus/$$target; \
		$(CARGO) fuzz run --sanitizer none $$target target/corpus/$$target corpus/$$target -- \
			-max_total_time=$(SECONDS) -max_len=4096 -timeout=10 -verbosity=0 -print_final_stats=1; \
	done

reference: ## Write docs/flags.md and docs/schemas from the command line and the types of hook/
	$(CARGO) xtask reference

# mdBook is not in Debian 12; this version is built once, below target.
MDBOOK := target/tools/bin/mdbook

docs: ## Build the book into target/book, and check its links and generated pages
	@xtask/install-packages build
	@test -x $(MDBOOK) || $(CARGO) install --quiet --locked --root target/tools mdbook --version 0.5.4
	$(CARGO) xtask check
	$(MDBOOK) build docs

package-contents: ## Build the libraries from the files that would be published, and list them
	$(CARGO) package --locked --package hostport-netlink --package hostport-nft --allow-dirty
	$(CARGO) package --locked --package hostport-nft --allow-dirty --list

# put MODE FOLDER NAME: writes standard input to a file, and replaces the file atomically, because containers may start
# meanwhile. Runtimes ignore a hook configuration whose name begins with a dot.
PUT := put() { install -d -m 0755 "$$2" && cat >"$$2/.$$3.new" && chmod "$$1" "$$2/.$$3.new" && mv -fT "$$2/.$$3.new" "$$2/$$3"; };

# The CNI plugin is the program itself: `link PLUGIN` leads to it, also atomically.
PLUGIN := $(DESTDIR)$(CNIDIR)/hostport
LINK := link() { install -d -m 0755 "$${1%/*}" && ln -sfn "$(PREFIX)/bin/hostport" "$$1.new" && mv -fT "$$1.new" "$$1"; };

# These paths are written into JSON, TOML and units unquoted.
.PHONY: install-paths
install-paths: export PATHS := $(PREFIX)/bin $(CONTAINERDDIR)/hostport
install-paths:
	@echo "$$PATHS" | grep -qxE '/[A-Za-z0-9/._+-]* /[A-Za-z0-9/._+-]*' \
		|| { echo "PREFIX and CONTAINERDDIR must be absolute paths of letters, digits and /._+-" >&2; exit 1; }

# anothers FILE: succeeds if it is a hook configuration that calls another hostport, such as a package's.
ANOTHERS := anothers() { [ -e "$$1" ] && ! grep -qF '"$(PREFIX)/bin/hostport"' "$$1"; };

# The hook configurations are installed last, when the program that they name exists.
install: install-paths ## Install binary, CNI plugin, hook configurations and systemd units (PREFIX, DESTDIR, CNIDIR, HOOKSDIR, UNITDIR)
	@test -x $(BINARY) || { echo "hostport is not built: run make build first" >&2; exit 1; }
	@$(ANOTHERS) for file in oci-hooks.d/*.json; do \
		present="$(DESTDIR)$(HOOKSDIR)/$${file##*/}"; \
		! anothers "$$present" || { echo "$$present calls another program than $(PREFIX)/bin/hostport: remove what installed it" \
			"(a package, the installer for Kubernetes, make uninstall with its PREFIX), or move it away" >&2; exit 1; }; \
	done
	$(PUT) put 0755 "$(DESTDIR)$(PREFIX)/bin" hostport <$(BINARY)
	$(PUT) for file in dist/systemd/*.service dist/systemd/*.timer; do \
		sed 's|/usr/local/bin/hostport|$(PREFIX)/bin/hostport|' $$file | put 0644 "$(DESTDIR)$(UNITDIR)" $${file##*/}; \
	done
	$(LINK) link "$(PLUGIN)"
	$(PUT) for file in oci-hooks.d/*.json; do \
		sed 's|"/usr/local/bin/hostport"|"$(PREFIX)/bin/hostport"|' $$file | put 0644 "$(DESTDIR)$(HOOKSDIR)" $${file##*/}; \
	done

# man and the shells look below PREFIX by default.
MANUAL := target/manual
install-manual: install-paths ## Install man pages and completions, after make manual (PREFIX, DESTDIR)
	@test -d $(MANUAL) || { echo "there is no manual: run make manual first" >&2; exit 1; }
	install -d "$(DESTDIR)$(PREFIX)/share/man/man8"
	for page in $(MANUAL)/man8/*.8; do \
		sed 's|/usr/local/bin/hostport|$(PREFIX)/bin/hostport|' $$page | gzip -9n > "$(DESTDIR)$(PREFIX)/share/man/man8/$${page##*/}.gz"; \
		chmod 0644 "$(DESTDIR)$(PREFIX)/share/man/man8/$${page##*/}.gz"; \
	done
	install -D -m 0644 $(MANUAL)/completions/bash/hostport "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/hostport"
	install -D -m 0644 $(MANUAL)/completions/zsh/_hostport "$(DESTDIR)$(PREFIX)/share/zsh/$(ZSHDIR)/_hostport"
	install -D -m 0644 $(MANUAL)/completions/fish/hostport.fish \
		"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/hostport.fish"

uninstall-manual: ## Remove what install-manual installed
	rm -f "$(DESTDIR)$(PREFIX)/share/man/man8"/hostport{,-*}.8.gz
	rm -f "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/hostport"
	rm -f "$(DESTDIR)$(PREFIX)/share/zsh/$(ZSHDIR)/_hostport"
	rm -f "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/hostport.fish"

install-containerd: install-paths ## Install the files for containerd's configuration (PREFIX, DESTDIR, CONTAINERDDIR): docs/runtimes.md
	$(PUT) for file in dist/containerd/*; do \
		sed -e 's|/usr/local/bin/hostport|$(PREFIX)/bin/hostport|' -e 's|/etc/containerd/|$(CONTAINERDDIR)/|' \
			$$file | put 0644 "$(DESTDIR)$(CONTAINERDDIR)/hostport" $${file##*/}; \
	done

uninstall-containerd: ## Remove what install-containerd installed (first remove it from containerd's configuration)
	for file in dist/containerd/*; do rm -f "$(DESTDIR)$(CONTAINERDDIR)/hostport/$${file##*/}"; done
	rmdir "$(DESTDIR)$(CONTAINERDDIR)/hostport" 2>/dev/null || true

# The hook configurations are removed first, while the program that they name exists.
uninstall: ## Remove what install installed
	@[ "$$(readlink "$(PLUGIN)")" != "$(PREFIX)/bin/hostport" ] \
		|| ! grep -lE '"type"[[:space:]]*:[[:space:]]*"hostport"' "$(DESTDIR)"/etc/cni/net.d/*.conf* 2>/dev/null \
		|| { echo "this CNI list names the plugin: run hostport uninstall cni first" >&2; exit 1; }
	@$(ANOTHERS) for file in oci-hooks.d/*.json; do \
		present="$(DESTDIR)$(HOOKSDIR)/$${file##*/}"; \
		if anothers "$$present"; then echo "$$present stays: it does not call $(PREFIX)/bin/hostport" >&2; \
		else rm -f "$$present"; fi; \
	done
	for file in dist/systemd/*.service dist/systemd/*.timer; do rm -f "$(DESTDIR)$(UNITDIR)/$${file##*/}"; done
	[ "$$(readlink "$(PLUGIN)")" != "$(PREFIX)/bin/hostport" ] || rm -f "$(PLUGIN)"
	rm -f "$(DESTDIR)$(PREFIX)/bin/hostport"

clean: ## Remove what was built
	$(CARGO) clean
