# Packages to distribute: Debian packages and a tarball, and a check that builds are reproducible. docs/packages.md.

VERSION     := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
DEB_VERSION ?= $(VERSION)-1
# The architectures that `make deb` builds for, as Debian names them.
ARCHITECTURES ?= amd64 arm64
DIST := target/dist
# All files get the date of the last commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)

NATIVE := $(shell dpkg --print-architecture 2>/dev/null)
binary_of = $(if $(filter $(NATIVE),$(1)),$(BINARY),$(STATIC)/$(1)/hostport)

.PHONY: manual deb deb-files binary-amd64 binary-arm64 package-test

manual: ## Write man pages and completions into target/manual
	@xtask/install-packages build
	@rm -rf $(MANUAL)
	$(CARGO) xtask manual $(MANUAL)

binary-$(NATIVE): build

ifneq ($(NATIVE),arm64)
binary-arm64:
	@xtask/install-packages arm64
	dist/cross arm64 $(call binary_of,arm64) $(STATIC_FLAGS)
	qemu-aarch64-static $(call binary_of,arm64) --version
	qemu-aarch64-static $(call binary_of,arm64) --help >/dev/null
endif

deb: deb-files ## Build the Debian packages into target/dist, and check them with lintian (ARCHITECTURES="amd64 arm64")
	@# lintian's exit status counts overridden errors too.
	@packages="$(foreach a,$(ARCHITECTURES),$(DIST)/hostport_$(DEB_VERSION)_$(a).deb)"; \
	lintian --allow-root --fail-on none --show-overrides $$packages | tee $(DIST)/lintian.txt; \
	! grep '^E:' $(DIST)/lintian.txt

deb-files: $(foreach a,$(ARCHITECTURES),binary-$(a)) manual
	@xtask/install-packages deb
	$(foreach a,$(ARCHITECTURES),dist/debian/build $(call binary_of,$(a)) $(a) $(DEB_VERSION) \
		$(DIST)/hostport_$(DEB_VERSION)_$(a).deb &&) true

# Debian 12, installed once. Tests work on a layer above it.
PACKAGE_ROOT := target/package-test/root
$(PACKAGE_ROOT)/.complete:
	rm -rf $(PACKAGE_ROOT)
	mkdir -p $(dir $(PACKAGE_ROOT))
	debootstrap --variant=minbase --include=nftables,systemd bookworm $(PACKAGE_ROOT) >target/package-test/debootstrap.txt \
		|| { tail -5 target/package-test/debootstrap.txt; exit 1; }
	touch $@

# The previous build: of the last tag or, without one, of the last commit with schema 1, packaged like this one.
PREVIOUS ?= $(shell git describe --tags --abbrev=0 2>/dev/null || echo b151262)
PREVIOUS_TREE := target/package-test/previous-$(PREVIOUS)

package-test: ## Install, upgrade under load, remove and purge the package in a separate Debian root (as root)
	@xtask/install-packages package-test
	$(MAKE) --no-print-directory deb-files ARCHITECTURES=$(NATIVE)
	$(MAKE) --no-print-directory $(PACKAGE_ROOT)/.complete
	test -d $(PREVIOUS_TREE) || { mkdir -p $(PREVIOUS_TREE) && git archive $(PREVIOUS) | tar -x -C $(PREVIOUS_TREE); }
	env -u MAKEFLAGS -u CARGO_TARGET_DIR $(MAKE) --no-print-directory --directory $(PREVIOUS_TREE) build
	dist/debian/build $(PREVIOUS_TREE)/target/*-linux-*/release/hostport $(NATIVE) $(DEB_VERSION)~previous \
		target/package-test/previous.deb
	HOSTPORT_PACKAGE=$(abspath $(DIST)/hostport_$(DEB_VERSION)_$(NATIVE).deb) \
		HOSTPORT_PACKAGE_PREVIOUS=$(abspath target/package-test/previous.deb) \
		HOSTPORT_PACKAGE_ROOT=$(abspath $(PACKAGE_ROOT)) \
		$(CARGO) test --locked --package hostport-tests --test all packages:: -- --ignored --nocapture --test-threads 1

# Each tool has a fixed version and is built once below target.
target/tools/bin/cargo-cyclonedx:
	$(CARGO) install --quiet --locked --root target/tools cargo-cyclonedx --version 0.5.7
target/tools/bin/cargo-semver-checks:
	$(CARGO) install --quiet --locked --root target/tools cargo-semver-checks --version 0.48.0

.PHONY: release release-files semver
release: release-files ## Build tarballs with checksums and SBOMs into target/dist, and try this machine's tarball
	cd $(DIST) && sha256sum hostport-$(VERSION)-linux-*.tar.gz hostport-$(VERSION)-linux-*.cdx.json >SHA256SUMS
	cd $(DIST) && sha256sum --check SHA256SUMS
	@# Files only: an entry for a folder would change that folder where the tarball is unpacked.
	! tar -tzf $(DIST)/hostport-$(VERSION)-linux-$(NATIVE).tar.gz | grep '/$$'
	rm -rf target/release-test && mkdir -p target/release-test
	tar --directory target/release-test --strip-components=1 -xzf $(DIST)/hostport-$(VERSION)-linux-$(NATIVE).tar.gz
	target/release-test/usr/local/bin/hostport --version
	@# The SBOM must list every crate that cargo links in.
	$(CARGO) tree --locked --package hostport-hook --edges normal,no-proc-macro --target $(TARGET) --prefix none \
		--format '{p}' | sed 's/ (.*//; s/ v/ /' | sort -u | grep -v '^hostport-hook ' >target/release-test/linked
	python3 -c 'import json,sys; [print(c["name"], c["version"]) for c in json.load(sys.stdin)["components"]]' \
		<target/release-test/usr/local/share/doc/hostport/sbom.cdx.json | sort -u >target/release-test/listed
	comm -23 target/release-test/linked target/release-test/listed | tee target/release-test/missing
	test ! -s target/release-test/missing

release-files: $(foreach a,$(ARCHITECTURES),binary-$(a)) manual target/tools/bin/cargo-cyclonedx
	$(foreach a,$(ARCHITECTURES),dist/release $(call binary_of,$(a)) $(a) $(VERSION) $(DIST) &&) true

# The library's interface to compare with: that of the last tag or, without one, of the commit before this one.
BASELINE ?= $(PREVIOUS)
semver: target/tools/bin/cargo-semver-checks ## Check that the library's version fits its interface's changes (BASELINE=COMMIT)
	$< semver-checks --package hostport-nft --baseline-rev $(BASELINE) --default-features

.PHONY: newcomer
newcomer: ## Follow the docs' steps for podman in a fresh Debian root, and write docs/newcomer.md (as root)
	@xtask/install-packages package-test
	$(MAKE) --no-print-directory deb-files ARCHITECTURES=$(NATIVE)
	$(MAKE) --no-print-directory $(PACKAGE_ROOT)/.complete
	$(CARGO) xtask newcomer $(PACKAGE_ROOT) $(DIST)/hostport_$(DEB_VERSION)_$(NATIVE).deb

.PHONY: reproducible
reproducible: target/tools/bin/cargo-cyclonedx ## Build this machine's package and tarball twice from the last commit, and compare the hashes
	@rm -rf target/reproducible
	for folder in one another-with-a-longer-name; do \
		mkdir -p target/reproducible/$$folder; \
		git archive HEAD | tar -x -C target/reproducible/$$folder; \
		mkdir -p target/reproducible/$$folder/target && cp -R target/tools target/reproducible/$$folder/target; \
		env -u MAKEFLAGS -u CARGO_TARGET_DIR $(MAKE) --no-print-directory --directory target/reproducible/$$folder \
			deb-files release-files ARCHITECTURES=$(NATIVE); \
	done
	sha256sum target/reproducible/*/$(DIST)/*.{deb,tar.gz}
	for kind in deb tar.gz; do \
		test "$$(sha256sum target/reproducible/*/$(DIST)/*.$$kind | cut -d' ' -f1 | uniq | wc -l)" = 1; \
	done
