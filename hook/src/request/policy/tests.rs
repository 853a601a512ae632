//! Who may ask for a port, and whose it is then.

use proptest::prelude::*;

use super::caller::*;
use super::*;

const EVIL: &str = r#"[{"hostPort":22,"containerPort":22}]"#;
/// CRI-O's list of a pod's ports, which it writes on the sandbox.
const CRIO_PORTS: &str = "io.kubernetes.cri-o.PortMappings";
const WEB: &str = r#"[{"containerPort":8080,"hostPort":9000,"protocol":"TCP"}]"#;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn read(pairs: &[(&str, &str)], allow: bool) -> Result<Wanted, PolicyError> {
    Wanted::read(&"me".parse().unwrap(), &map(pairs), allow)
}

/// The groups as text: `owner: requests`.
fn groups(wanted: &Wanted) -> Vec<String> {
    let text = |group: &Group| {
        let requests: Vec<_> = group.requests.iter().map(ToString::to_string).collect();
        format!("{}: {}", group.owner, requests.join(" "))
    };
    wanted.groups.iter().map(text).collect()
}

/// A CRI-O container whose kubelet annotations are `sent`, after what the pod's author added.
fn on_crio(sent: &str, author: &[(&str, &str)], allow: bool) -> Wanted {
    let mut pairs = author.to_vec();
    pairs.extend([
        (MANAGER, "cri-o"),
        (CRIO_TYPE, "container"),
        (CRIO_SANDBOX_ID, "pod"),
        (CRIO_RECORD, sent),
        (POD_UID, "1-2"),
        (CONTAINER_NAME, "web"),
    ]);
    read(&pairs, allow).unwrap()
}

#[test]
fn outside_kubernetes_every_annotation_counts_and_the_container_owns_its_ports() {
    let wanted = read(&[(PORTS, "80:80"), (KUBELET_PORTS, WEB)], false).unwrap();
    assert_eq!(groups(&wanted), ["me: 80:80/tcp 9000:8080/tcp"]);
    assert_eq!(wanted.warnings, [""; 0]);
}

#[test]
fn podman_is_not_kubernetes_although_it_writes_crio_keys() {
    let podman = [
        (MANAGER, "libpod"),
        (CRIO_TYPE, "container"),
        (CRIO_SANDBOX_ID, "pod"),
        ("io.kubernetes.cri-o.TTY", "false"),
        (PORTS, "80:80"),
    ];
    let wanted = read(&podman, false).unwrap();
    assert_eq!(groups(&wanted), ["me: 80:80/tcp"]);
}

#[test]
fn under_kubernetes_the_users_annotations_are_ignored_unread_unless_allowed() {
    for (key, value) in [
        (CONTAINERD_TYPE, "container"),
        (CONTAINERD_SANDBOX_ID, "pod"),
        (MANAGER, "cri-o"),
        (POD_UID, "1"),
    ] {
        let user = [(PORTS, "nonsense"), (ENDPOINT_IP, "nonsense")];
        let pairs: Vec<_> = user.into_iter().chain([(key, value)]).collect();
        let wanted = read(&pairs, false).unwrap();
        assert_eq!((groups(&wanted), wanted.endpoint_ips), (vec![], vec![]));
        assert_eq!(wanted.warnings.len(), 2, "{:?}", wanted.warnings);
        for user in [PORTS, ENDPOINT_IP] {
            let said =
                |line: &String| line.contains(user) && line.contains("--allow-pod-annotation");
            assert!(wanted.warnings.iter().any(said), "{:?}", wanted.warnings);
        }
        assert!(read(&pairs, true).is_err());
    }
}

#[test]
fn an_author_cannot_take_kubernetes_back() {
    let forged = [(POD_UID, "1"), (MANAGER, "libpod"), (CONTAINERD_TYPE, ""), (PORTS, "80:80")];
    assert_eq!(read(&forged, false).unwrap().groups, []);
}

#[test]
fn an_allowed_annotation_of_a_pod_belongs_to_its_sandbox() {
    let wanted = on_crio("{}", &[(PORTS, "80:80")], true);
    assert_eq!(groups(&wanted), ["pod: 80:80/tcp"]);
    let containerd =
        [(CONTAINERD_TYPE, "container"), (CONTAINERD_SANDBOX_ID, "pod"), (PORTS, "80:80")];
    assert_eq!(groups(&read(&containerd, true).unwrap()), ["pod: 80:80/tcp"]);
    assert_eq!(
        groups(&read(&[(POD_UID, "1"), (PORTS, "80:80")], true).unwrap()),
        ["me: 80:80/tcp"]
    );
}

#[test]
fn kubelets_ports_belong_to_the_container_unless_the_pod_has_them() {
    let sent = serde_json::to_string(&map(&[(KUBELET_PORTS, WEB)])).unwrap();
    let wanted = on_crio(&sent, &[(KUBELET_PORTS, WEB)], false);
    assert_eq!(groups(&wanted), ["me: 9000:8080/tcp"]);
    let wanted = on_crio(&sent, &[(KUBELET_PORTS, WEB), (PORTS, "9000:8080")], true);
    assert_eq!(groups(&wanted), ["pod: 9000:8080/tcp"]);
}

#[test]
fn sources_that_disagree_about_a_host_port_are_an_error_that_names_all() {
    let error = read(&[(PORTS, "9000:80"), (KUBELET_PORTS, WEB)], false).unwrap_err().to_string();
    for part in ["0.0.0.0:9000/tcp", "9000:80/tcp", "9000:8080/tcp", PORTS, KUBELET_PORTS] {
        assert!(error.contains(part), "{error}");
    }
    let same = read(&[(PORTS, "0.0.0.0:9000:8080"), (KUBELET_PORTS, WEB)], false).unwrap();
    assert_eq!(groups(&same), ["me: 0.0.0.0:9000:8080/tcp 9000:8080/tcp"]);
}

#[test]
fn on_crio_a_forged_kubelet_annotation_is_ignored_with_a_warning() {
    // The pod's annotations are copied to a container without ports of its own.
    for record in ["{}", "nonsense", r#"{"io.kubernetes.container.ports":7}"#] {
        let wanted = on_crio(record, &[(KUBELET_PORTS, EVIL)], false);
        assert_eq!(wanted.groups, []);
        assert!(wanted.warnings[0].contains("the pod's author wrote it"), "{:?}", wanted.warnings);
    }
}

#[test]
fn field_37_a_sandbox_asks_for_nothing_whatever_the_author_pretends() {
    let containerd = [(CONTAINERD_TYPE, "sandbox"), (CONTAINERD_SANDBOX_ID, "me")];
    let crio = [(MANAGER, "cri-o"), (CRIO_TYPE, "sandbox")];
    // Old versions of CRI-O let a pod's annotations replace their own keys, but not the labels.
    let forged_record = serde_json::to_string(&map(&[(KUBELET_PORTS, EVIL)])).unwrap();
    let forged = [
        (CONTAINER_NAME, "POD"),
        (POD_UID, "1"),
        (MANAGER, "cri-o"),
        (CRIO_TYPE, "container"),
        (CRIO_SANDBOX_ID, "victim"),
        (CRIO_RECORD, forged_record.as_str()),
    ];
    for sandbox in [&containerd[..], &crio, &forged] {
        let asks = [(KUBELET_PORTS, EVIL), (CRIO_PORTS, EVIL), (PORTS, "22:22")];
        let pairs: Vec<_> = sandbox.iter().copied().chain(asks).collect();
        for allow in [false, true] {
            assert_eq!(read(&pairs, allow).unwrap(), Wanted::default());
        }
    }
}

#[test]
fn field_37_crios_port_list_is_without_effect() {
    for allow in [false, true] {
        let wanted = on_crio("{}", &[(CRIO_PORTS, WEB)], allow);
        assert_eq!((wanted.groups, wanted.warnings), (vec![], vec![]));
        assert_eq!(read(&[(CRIO_PORTS, "nonsense")], allow).unwrap(), Wanted::default());
    }
}

#[test]
fn the_users_endpoint_addresses_are_one_unicast_address_a_family() {
    let ips = |text| read(&[(ENDPOINT_IP, text)], false).map(|wanted| wanted.endpoint_ips);
    assert_eq!(ips("10.0.0.2, 2001:db8::2").unwrap().len(), 2);
    for bad in [
        "x",
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "::1",
        "224.0.0.1",
        "ff02::1",
        "fe80::1",
        "10.0.0.2,10.0.0.3",
    ] {
        let error = ips(bad).unwrap_err().to_string();
        assert!(
            error.contains("annotation io.hostport.ip") && error.contains("unicast"),
            "{error}"
        );
    }
}

#[test]
fn reported_addresses_are_crios_first_of_each_family() {
    let ips = [
        ("io.kubernetes.cri-o.IP.0", "10.0.0.2"),
        ("io.kubernetes.cri-o.IP.1", "2001:db8::2"),
        ("io.kubernetes.cri-o.IP.2", "10.0.0.3"),
        ("io.kubernetes.cri-o.IP.4", "10.0.0.4"),
    ];
    let wanted = on_crio("{}", &ips, false);
    let expected: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    assert_eq!((wanted.reported_ips, wanted.endpoint_ips), (expected.to_vec(), vec![]));
}

#[test]
fn a_bad_sandbox_id_matters_only_to_ports_that_it_is_to_own() {
    let bad = [(CONTAINERD_SANDBOX_ID, "../x"), (CONTAINERD_TYPE, "container")];
    assert_eq!(read(&bad, true).unwrap(), Wanted::default());
    let pairs: Vec<_> = bad.into_iter().chain([(PORTS, "80:80")]).collect();
    assert!(read(&pairs, true).unwrap_err().to_string().contains(CONTAINERD_SANDBOX_ID));
}

#[test]
fn all_annotations_together_keep_to_the_most_ports() {
    let kubelet: Vec<_> = (60_001..=60_100)
        .map(|port| format!(r#"{{"hostPort":{port},"containerPort":1}}"#))
        .collect();
    let most = format!("1-{MAX_PORTS}:1-{MAX_PORTS}");
    let kubelet = format!("[{}]", kubelet.join(","));
    let error = read(&[(PORTS, &most), (KUBELET_PORTS, &kubelet)], false).unwrap_err();
    assert_eq!(error, PolicyError::TooManyPorts);
}

/// FIELD 30. Under Kubernetes an author could keep no other container from starting, but is not believed at all.
#[test]
fn an_annotation_with_a_name_like_ours_is_unknown_where_the_users_count() {
    let typo = (PREFIX.to_owned() + "port\n", "9000:8080");
    let pairs = [(typo.0.as_str(), typo.1)];
    assert_eq!(read(&pairs, false).unwrap().unknown.as_deref(), Some("\"io.hostport.port\\n\""));
    assert_eq!(read(&[(PORTS, "1:1"), (ON_CONFLICT, "refuse")], false).unwrap().unknown, None);
    let pairs = [pairs[0], (POD_UID, "1")];
    let wanted = read(&pairs, false).unwrap();
    assert_eq!((wanted.unknown, wanted.warnings.len()), (None, 1));
    assert!(read(&pairs, true).unwrap().unknown.is_some());
}

#[test]
fn every_annotation_that_is_obeyed_is_in_the_docs() {
    let page = include_str!("../../../../docs/annotations.md");
    for annotation in [PORTS, ENDPOINT_IP, ON_CONFLICT, KUBELET_PORTS] {
        assert!(page.contains(&format!("`{annotation}`")), "{annotation}");
    }
}

proptest! {
    #[test]
    fn no_annotations_make_it_panic_and_every_error_is_one_line(
        keys in prop::collection::vec(
            prop::sample::select(vec![
                PORTS, ENDPOINT_IP, KUBELET_PORTS, CRIO_PORTS, CRIO_RECORD, CRIO_SANDBOX_ID,
                CRIO_TYPE, "io.kubernetes.cri-o.IP.0", CONTAINERD_SANDBOX_ID, CONTAINERD_TYPE, MANAGER,
                POD_UID, CONTAINER_NAME,
            ]),
            0..8,
        ),
        value in "(?s).{0,20}|cri-o|sandbox|me|80:80|\\[\\{\"hostPort\":1,\"containerPort\":2\\}\\]",
        allow: bool,
    ) {
        let pairs: Vec<_> = keys.into_iter().map(|key| (key, value.as_str())).collect();
        if let Err(error) = read(&pairs, allow) {
            let error = error.to_string();
            prop_assert!(!error.chars().any(char::is_control) && error.len() < 1200, "{:?}", error);
        }
    }

    #[test]
    fn nothing_that_an_author_adds_publishes_a_port_under_kubernetes(
        author in prop::collection::btree_map(
            prop::sample::select(vec![
                PORTS, KUBELET_PORTS, CRIO_PORTS, CRIO_RECORD, CRIO_SANDBOX_ID, CRIO_TYPE,
                CONTAINERD_SANDBOX_ID, CONTAINERD_TYPE, MANAGER,
            ]),
            prop::sample::select(vec![
                "80:80", EVIL, "me", "victim", "container", "sandbox", "libpod", "cri-o", "{}",
                r#"{"io.kubernetes.container.ports":"[{\"hostPort\":22,\"containerPort\":22}]"}"#,
            ]),
            0..9,
        ),
    ) {
        let author: Vec<_> = author.into_iter().collect();
        // On a container of CRI-O, its own keys come last; on its sandbox, in old versions, only labels do.
        prop_assert_eq!(on_crio("{}", &author, false).groups, []);
        let kubelets = [(POD_UID, "1"), (CONTAINER_NAME, "POD")];
        let sandbox: Vec<_> = author.into_iter().chain(kubelets).collect();
        prop_assert_eq!(read(&sandbox, false).unwrap().groups, []);
    }
}
