//! netlink messages read by libnftnl's own parsers (`nftnl_table_nlmsg_parse` and its like).

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::ptr;

use nftnl_sys as sys;
use sys::libc::nlmsghdr;

use crate::object::{Message, Object, Verb};

/// The length of `struct nlmsghdr` and the alignment of messages: `linux/netlink.h`.
const HEADER: usize = 16;
const ALIGNMENT: usize = 4;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

/// Reads messages that follow each other, as a batch sends them. Messages to other subsystems (conntrack) are left
/// out.
///
/// # Panics
/// If libnftnl rejects one, or the lengths in the headers do not add up.
#[track_caller]
pub fn messages(bytes: &[u8]) -> Vec<Message> {
    read_each(bytes, |message| message.to_vec())
}

/// Reads messages that libnftnl itself has written.
///
/// When it writes an element list, it numbers the entries from 1 upwards; when it reads one, it accepts nothing but
/// 1 (NFTA_LIST_ELEM), so it rejects its own lists of several elements. The kernel looks at neither.
///
/// # Panics
/// As [`messages`].
#[track_caller]
pub fn messages_of_libnftnl(bytes: &[u8]) -> Vec<Message> {
    read_each(bytes, |message| {
        let mut message = message.to_vec();
        if [NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM].contains(&word(&message, 4)) {
            let lists = attributes_in(&message, HEADER + 4..message.len());
            for (_, list) in lists.into_iter().filter(|(kind, _)| *kind == NFTA_ELEMENTS) {
                for (_, element) in attributes_in(&message, list) {
                    message[element.start - 2] = NFTA_LIST_ELEM;
                }
            }
        }
        message
    })
}

const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
/// NFTA_SET_ELEM_LIST_ELEMENTS
const NFTA_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u8 = 1;

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// The attributes in a part of a message: their types without flags, and where their values are.
fn attributes_in(message: &[u8], part: Range<usize>) -> Vec<(u16, Range<usize>)> {
    let mut attributes = Vec::new();
    let mut at = part.start;
    while at < part.end {
        let length = usize::from(word(message, at));
        assert!(length >= 4, "an attribute has a header");
        attributes.push((word(message, at + 2) & 0x3fff, at + 4..at + length));
        at += length.next_multiple_of(ALIGNMENT);
    }
    attributes
}

fn read_each(mut bytes: &[u8], prepare: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let header = bytes.first_chunk::<HEADER>().expect("a netlink header");
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (kind, flags) = (word(header, 4), word(header, 6));
        assert!(length >= HEADER + 4 && length <= bytes.len(), "length {length} of {bytes:x?}");
        let (message, _) = bytes.split_at(length);
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        let (verb, objects) = match (kind >> 8, kind) {
            (0, NFNL_MSG_BATCH_BEGIN) => (Verb::Begin, vec![]),
            (0, NFNL_MSG_BATCH_END) => (Verb::End, vec![]),
            (NFNL_SUBSYS_NFTABLES, _) => read(kind & 0xff, &Aligned::new(&prepare(message))),
            _ => continue,
        };
        messages.push(Message { verb, flags, objects });
    }
    messages
}

/// A message at an address where libmnl can read its header, complete and as long as it says.
struct Aligned(Vec<u32>);

impl Aligned {
    fn new(message: &[u8]) -> Self {
        let words = message.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_ne_bytes(word)
        });
        Aligned(words.collect())
    }

    fn header(&self) -> *const nlmsghdr {
        self.0.as_ptr().cast()
    }
}

/// `enum nf_tables_msg_types`: new, get and delete for each kind of object.
fn read(kind: u16, message: &Aligned) -> (Verb, Vec<Object>) {
    let verb = [Verb::New, Verb::Get, Verb::Delete][usize::from(kind % 3)];
    let objects = match kind {
        0..=2 => vec![table(message)],
        3..=5 => vec![chain(message)],
        6..=8 => vec![rule(message)],
        9..=11 => vec![set(message)],
        12..=14 => elements(message),
        16 => return (Verb::Get, vec![]), // NFT_MSG_GETGEN
        other => panic!("message type {other} is none that hostport has"),
    };
    (verb, objects)
}

/// How to print an attribute.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Signed,
    Hex,
}
use Form::{Hex, Number, Signed, Text};

/// The attributes that are set. `get` is one of libnftnl's `get_data` functions on a living object: it returns
/// null, or a pointer to as many bytes as it says.
fn attributes(
    names: &[(u32, &'static str, Form)],
    get: impl Fn(u16, *mut u32) -> *const c_void,
) -> BTreeMap<&'static str, String> {
    let mut attributes = BTreeMap::new();
    for (number, name, form) in names {
        let mut length = 0;
        let data = get(*number as u16, &mut length);
        if data.is_null() {
            continue;
        }
        // SAFETY: as said above; what is read is copied before the object goes. A text ends with a
        // NUL, and libnftnl does not tell the length of each.
        let bytes = unsafe {
            match form {
                Text => CStr::from_ptr(data.cast()).to_bytes(),
                _ => std::slice::from_raw_parts(data.cast::<u8>(), length as usize),
            }
        };
        let word = || <[u8; 4]>::try_from(bytes).expect("a number of 32 bits");
        let value = match form {
            Text => String::from_utf8_lossy(bytes).into_owned(),
            Number => u32::from_ne_bytes(word()).to_string(),
            Signed => i32::from_ne_bytes(word()).to_string(),
            Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        attributes.insert(*name, value);
    }
    attributes
}

/// Moves family, table and further names from the attributes into the path of an object.
fn path(attributes: &mut BTreeMap<&'static str, String>, names: &[&'static str]) -> String {
    let family = match attributes.remove("family").as_deref() {
        Some("2") => "ip".to_owned(),
        Some("10") => "ip6".to_owned(),
        other => format!("family {other:?}"),
    };
    let names = names.iter().map(|name| attributes.remove(name).unwrap_or("-".to_owned()));
    std::iter::once(family).chain(names).collect::<Vec<_>>().join(" ")
}

fn table(message: &Aligned) -> Object {
    const ATTRIBUTES: &[(u32, &str, Form)] = &[
        (sys::NFTNL_TABLE_FAMILY, "family", Number),
        (sys::NFTNL_TABLE_NAME, "name", Text),
        (sys::NFTNL_TABLE_FLAGS, "flags", Number),
        (sys::NFTNL_TABLE_USERDATA, "userdata", Hex),
    ];
    // SAFETY: the table lives from alloc to free; the message is complete.
    let mut attributes = unsafe {
        let table = sys::nftnl_table_alloc();
        assert_eq!(sys::nftnl_table_nlmsg_parse(message.header(), table), 0, "libnftnl: a table");
        let attributes = attributes(ATTRIBUTES, |number, length| {
            sys::nftnl_table_get_data(table, number, length)
        });
        sys::nftnl_table_free(table);
        attributes
    };
    let path = path(&mut attributes, &["name"]);
    Object { kind: "table", path, attributes, expressions: vec![] }
}

fn chain(message: &Aligned) -> Object {
    const ATTRIBUTES: &[(u32, &str, Form)] = &[
        (sys::NFTNL_CHAIN_FAMILY, "family", Number),
        (sys::NFTNL_CHAIN_TABLE, "table", Text),
        (sys::NFTNL_CHAIN_NAME, "name", Text),
        (sys::NFTNL_CHAIN_TYPE, "type", Text),
        (sys::NFTNL_CHAIN_HOOKNUM, "hook", Number),
        (sys::NFTNL_CHAIN_PRIO, "priority", Signed),
        (sys::NFTNL_CHAIN_POLICY, "policy", Number),
        (sys::NFTNL_CHAIN_FLAGS, "flags", Number),
        (sys::NFTNL_CHAIN_DEV, "device", Text),
        (sys::NFTNL_CHAIN_USERDATA, "userdata", Hex),
    ];
    // SAFETY: the chain lives from alloc to free; the message is complete.
    let mut attributes = unsafe {
        let chain = sys::nftnl_chain_alloc();
        assert_eq!(sys::nftnl_chain_nlmsg_parse(message.header(), chain), 0, "libnftnl: a chain");
        let attributes = attributes(ATTRIBUTES, |number, length| {
            sys::nftnl_chain_get_data(chain, number, length)
        });
        sys::nftnl_chain_free(chain);
        attributes
    };
    let path = path(&mut attributes, &["table", "name"]);
    Object { kind: "chain", path, attributes, expressions: vec![] }
}

fn rule(message: &Aligned) -> Object {
    const ATTRIBUTES: &[(u32, &str, Form)] = &[
        (sys::NFTNL_RULE_FAMILY, "family", Number),
        (sys::NFTNL_RULE_TABLE, "table", Text),
        (sys::NFTNL_RULE_CHAIN, "chain", Text),
        (sys::NFTNL_RULE_HANDLE, "handle", Hex),
        (sys::NFTNL_RULE_POSITION, "position", Hex),
        (sys::NFTNL_RULE_USERDATA, "userdata", Hex),
    ];
    let mut expressions = Vec::new();
    // SAFETY: the rule lives from alloc to free; the message is complete; `collect` gets what it expects.
    let mut attributes = unsafe {
        let rule = sys::nftnl_rule_alloc();
        assert_eq!(sys::nftnl_rule_nlmsg_parse(message.header(), rule), 0, "libnftnl: a rule");
        let attributes =
            attributes(ATTRIBUTES, |number, length| sys::nftnl_rule_get_data(rule, number, length));
        sys::nftnl_expr_foreach(rule, Some(collect), ptr::from_mut(&mut expressions).cast());
        sys::nftnl_rule_free(rule);
        attributes
    };
    let path = path(&mut attributes, &["table", "chain"]);
    Object { kind: "rule", path, attributes, expressions }
}

const SET: &[(u32, &str, Form)] = &[
    (sys::NFTNL_SET_FAMILY, "family", Number),
    (sys::NFTNL_SET_TABLE, "table", Text),
    (sys::NFTNL_SET_NAME, "name", Text),
    (sys::NFTNL_SET_ID, "id", Number),
    (sys::NFTNL_SET_FLAGS, "flags", Number),
    (sys::NFTNL_SET_KEY_TYPE, "key type", Number),
    (sys::NFTNL_SET_KEY_LEN, "key length", Number),
    (sys::NFTNL_SET_DATA_TYPE, "data type", Number),
    (sys::NFTNL_SET_DATA_LEN, "data length", Number),
    (sys::NFTNL_SET_POLICY, "policy", Number),
    (sys::NFTNL_SET_DESC_SIZE, "size", Number),
    (sys::NFTNL_SET_DESC_CONCAT, "fields", Hex),
    (sys::NFTNL_SET_TIMEOUT, "timeout", Hex),
    (sys::NFTNL_SET_GC_INTERVAL, "gc interval", Number),
    (sys::NFTNL_SET_USERDATA, "userdata", Hex),
];

fn set(message: &Aligned) -> Object {
    let mut expressions = Vec::new();
    // SAFETY: the set lives from alloc to free; the message is complete; `collect` gets what it expects.
    let mut attributes = unsafe {
        let set = sys::nftnl_set_alloc();
        assert_eq!(sys::nftnl_set_nlmsg_parse(message.header(), set), 0, "libnftnl: a set");
        let attributes =
            attributes(SET, |number, length| sys::nftnl_set_get_data(set, number, length));
        sys::nftnl_set_expr_foreach(set, Some(collect), ptr::from_mut(&mut expressions).cast());
        sys::nftnl_set_free(set);
        attributes
    };
    let path = path(&mut attributes, &["table", "name"]);
    Object { kind: "set", path, attributes, expressions }
}

/// The elements that a message lists; none for a dump of the whole set.
fn elements(message: &Aligned) -> Vec<Object> {
    let mut elements: Vec<Object> = Vec::new();
    // SAFETY: the set lives from alloc to free; the message is complete; `element` gets what it expects.
    let mut attributes = unsafe {
        let set = sys::nftnl_set_alloc();
        let parsed = sys::nftnl_set_elems_nlmsg_parse(message.header(), set);
        assert_eq!(parsed, 0, "libnftnl: a list of elements");
        let attributes =
            attributes(SET, |number, length| sys::nftnl_set_get_data(set, number, length));
        sys::nftnl_set_elem_foreach(set, Some(element), ptr::from_mut(&mut elements).cast());
        sys::nftnl_set_free(set);
        attributes
    };
    let path = path(&mut attributes, &["table", "name"]);
    elements.iter_mut().for_each(|element| element.path.clone_from(&path));
    elements
}

/// Adds what an element holds to the `Vec<Object>` behind `data`.
unsafe extern "C" fn element(element: *mut sys::nftnl_set_elem, data: *mut c_void) -> c_int {
    const ATTRIBUTES: &[(u32, &str, Form)] = &[
        (sys::NFTNL_SET_ELEM_FLAGS, "flags", Number),
        (sys::NFTNL_SET_ELEM_KEY, "key", Hex),
        (sys::NFTNL_SET_ELEM_KEY_END, "key end", Hex),
        (sys::NFTNL_SET_ELEM_DATA, "data", Hex),
        (sys::NFTNL_SET_ELEM_TIMEOUT, "timeout", Hex),
        (sys::NFTNL_SET_ELEM_USERDATA, "userdata", Hex),
    ];
    let mut expressions = Vec::<String>::new();
    // SAFETY: libnftnl calls this with an element and with what `elements` gave it.
    let (elements, attributes) = unsafe {
        let attributes = attributes(ATTRIBUTES, |number, length| {
            if sys::nftnl_set_elem_is_set(element, number) {
                sys::nftnl_set_elem_get(element, number, length)
            } else {
                ptr::null()
            }
        });
        let into = ptr::from_mut(&mut expressions).cast();
        sys::nftnl_set_elem_expr_foreach(element, Some(collect), into);
        (&mut *data.cast::<Vec<Object>>(), attributes)
    };
    elements.push(Object { kind: "element", path: String::new(), attributes, expressions });
    0
}

/// Adds an expression, as `nft --debug=netlink` prints it, to the `Vec<String>` behind `data`.
unsafe extern "C" fn collect(expression: *mut sys::nftnl_expr, data: *mut c_void) -> c_int {
    let mut buffer = [0 as c_char; 1024];
    // SAFETY: libnftnl calls this with an expression and with what the caller gave it. It ends its
    // text with a NUL inside the buffer.
    unsafe {
        let name = CStr::from_ptr(sys::nftnl_expr_get_str(expression, sys::NFTNL_EXPR_NAME as u16));
        let (start, length) = (buffer.as_mut_ptr(), buffer.len());
        sys::nftnl_expr_snprintf(start, length, expression, sys::NFTNL_OUTPUT_DEFAULT, 0);
        let text = CStr::from_ptr(buffer.as_ptr());
        let text = [name.to_string_lossy(), text.to_string_lossy()].join(" ");
        (*data.cast::<Vec<String>>()).push(format!("[ {} ]", text.trim_end()));
    }
    0
}
