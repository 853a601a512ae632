use super::*;
use crate::Port;
use proptest::prelude::*;

fn published(host_ip: IpAddr, pod: IpAddr, ports: (u16, u16), protocol: u8) -> Option<Published> {
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(protocol % 3)];
    let host = HostPort { host_ip, port: Port::new(ports.0)?, protocol };
    let endpoint = Endpoint { ip: pod, port: Port::new(ports.1)? };
    Some(Published {
        mapping: Mapping::new(host, endpoint).ok()?,
        owner: "5e0f".parse().ok(),
        counter: Counter::default(),
    })
}

#[test]
fn a_mapping_is_laid_out_as_nft_lays_it_out() {
    let v4 = published([192, 0, 2, 1].into(), [10, 85, 0, 12].into(), (9001, 53), 1).unwrap();
    assert_eq!(v4.element().key, [192, 0, 2, 1, 0x23, 0x29, 0, 0, 17, 0, 0, 0]);
    assert_eq!(v4.element().data.unwrap(), [10, 85, 0, 12, 0, 53, 0, 0]);
    let pod = "2001:db8:85::11".parse().unwrap();
    let v6 = published(Family::Ip6.wildcard(), pod, (9000, 8080), 0).unwrap();
    assert_eq!(v6.element().key.len(), 24);
    assert_eq!(v6.element().data.unwrap()[16..], [0x1f, 0x90, 0, 0]);
    assert_eq!(v6.to_string(), ":: . 9000 . tcp comment \"5e0f\" : 2001:db8:85::11 . 8080");
}

#[test]
fn joined_types_take_six_bits_each() {
    let key = [DataType::Ipv4Addr, DataType::InetService, DataType::InetProto];
    assert_eq!(DataType::joined(&key), (7 << 12) | (13 << 6) | 12);
    assert_eq!(DataType::joined_length(&key), 12);
}

#[test]
fn a_prefix_is_its_first_address_and_the_one_behind_its_last() {
    let keys = |text: &str| -> Vec<_> {
        interval(text.parse().unwrap()).into_iter().map(|e| (e.key, e.interval_end)).collect()
    };
    assert_eq!(keys("10.96.0.0/12"), [(vec![10, 96, 0, 0], false), (vec![10, 112, 0, 0], true)]);
    assert_eq!(keys("255.0.0.0/8"), [(vec![255, 0, 0, 0], false)]);
    assert_eq!(keys("::/0").len(), 1);
}

#[test]
fn an_element_with_other_bytes_than_ours_is_not_ours() {
    let mapping = published([192, 0, 2, 1].into(), [10, 85, 0, 12].into(), (9001, 53), 1).unwrap();
    let read = |change: &dyn Fn(&mut Element)| {
        let mut element = mapping.element();
        change(&mut element);
        Published::from_element(Family::Ip, &element)
    };
    assert_eq!(read(&|_| {}), Some(mapping.clone()));
    // Padding that is not zero makes a key that no packet has, and that we would not find again.
    for dirty in [6, 7, 9, 10, 11] {
        assert_eq!(read(&|element| element.key[dirty] = 1), None, "byte {dirty} of the key");
    }
    for dirty in [6, 7] {
        let dirt = |element: &mut Element| element.data.as_mut().unwrap()[dirty] = 1;
        assert_eq!(read(&dirt), None, "byte {dirty} of the data");
    }
    // A map of another form, which somebody put in ours' place.
    assert_eq!(read(&|element| element.key.push(0)), None);
    assert_eq!(read(&|element| element.data.as_mut().unwrap().push(0)), None);

    let mut link = SameLink { iif: 3, oif: 3 }.element();
    assert_eq!(SameLink::from_element(&link), Some(SameLink { iif: 3, oif: 3 }));
    link.key.extend([0; 8]);
    assert_eq!(SameLink::from_element(&link), None);
}

#[test]
fn no_container_can_be_named_like_the_mark_of_several() {
    assert!(SEVERAL.parse::<OwnerId>().is_err());
}

proptest! {
    #[test]
    fn a_mapping_comes_back_from_its_element(
        host: [u8; 4], pod: [u8; 4], host6: [u8; 16], pod6: [u8; 16],
        ports in (1u16.., 1u16..), protocol: u8,
    ) {
        for value in [
            published(host.into(), pod.into(), ports, protocol).unwrap(),
            published(host6.into(), pod6.into(), ports, protocol).unwrap(),
        ] {
            let family = value.mapping.family();
            prop_assert_eq!(Published::from_element(family, &value.element()), Some(value));
        }
    }

    #[test]
    fn foreign_bytes_are_no_mapping_and_no_panic(
        key in prop::collection::vec(any::<u8>(), 0..40),
        data in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        comment in prop::option::of("\\PC{0,20}"),
    ) {
        let element = Element { key, data, comment, ..Element::default() };
        for family in Family::ALL {
            let _ = Published::from_element(family, &element);
            let _ = Hairpin::from_element(family, &element);
        }
        let _ = SameLink::from_element(&element);
    }
}
