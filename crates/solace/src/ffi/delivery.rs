//! Reading a delivered message while its callback runs.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::{ptr, slice};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use solace_rs_sys as sys;

use super::library::OK;
use crate::Offset;

/// Length of the text form of an offset, with its NUL.
const OFFSET_TEXT: usize = 42;

/// First bytes of an SDT string of 1 to 4 length bytes: a text message, not JSON.
const SDT_STRING: std::ops::RangeInclusive<u8> = 0x1c..=0x1f;

/// A message that the library owns; it is gone when the callback returns.
pub(crate) struct Delivery<'callback> {
    raw: sys::solClient_opaqueMsg_pt,
    callback: PhantomData<&'callback ()>,
}

impl Delivery<'_> {
    /// # Safety
    /// `raw` is a valid message for as long as the value lives.
    pub(super) unsafe fn new(raw: sys::solClient_opaqueMsg_pt) -> Self {
        Self { raw, callback: PhantomData }
    }

    /// The library's id of this message on its flow: only good for acknowledging it.
    pub(crate) fn id(&self) -> Option<u64> {
        let mut id = 0;
        // SAFETY: the message is valid, the pointer is to a local.
        let code = unsafe { sys::solClient_msg_getMsgId(self.raw, &mut id) };
        (code == OK).then_some(id)
    }

    /// The replication group message id; `None` if the broker did not send one.
    pub(crate) fn offset(&self) -> Option<Offset> {
        let mut id =
            sys::solClient_replicationGroupMessageId { replicationGroupMessageId: [0; 16] };
        // SAFETY: the message is valid, the pointer is to a local of the given size.
        let code = unsafe {
            sys::solClient_msg_getReplicationGroupMessageId(self.raw, &mut id, size_of_val(&id))
        };
        if code == OK { decode_offset(&mut id) } else { None }
    }

    pub(crate) fn is_redelivered(&self) -> bool {
        // SAFETY: the message is valid.
        unsafe { sys::solClient_msg_isRedelivered(self.raw) != 0 }
    }

    /// The name of the topic or queue that the message was sent to; empty if it names none.
    pub(crate) fn topic(&self) -> String {
        let mut destination = sys::solClient_destination {
            destType: sys::solClient_destinationType_SOLCLIENT_NULL_DESTINATION,
            dest: ptr::null(),
        };
        // SAFETY: the message is valid, the pointer is to a local of the given size; the name
        // belongs to the message.
        unsafe {
            let size = size_of_val(&destination);
            let code = sys::solClient_msg_getDestination(self.raw, &mut destination, size);
            if code == OK { text(destination.dest).unwrap_or_default() } else { String::new() }
        }
    }

    /// The content, whichever way it was sent: binary attachment, text, or XML. Empty for a tombstone.
    pub(crate) fn payload(&self) -> Bytes {
        let attachment = self.part(sys::solClient_msg_getBinaryAttachmentPtr);
        match attachment {
            Some(bytes) if bytes.first().is_some_and(|byte| SDT_STRING.contains(byte)) => {
                self.attached_text().unwrap_or_else(|| Bytes::copy_from_slice(bytes))
            }
            Some(bytes) => Bytes::copy_from_slice(bytes),
            None => self
                .part(sys::solClient_msg_getXmlPtr)
                .map(Bytes::copy_from_slice)
                .unwrap_or_default(),
        }
    }

    fn part(&self, get: PartGetter) -> Option<&[u8]> {
        let mut start: *mut c_void = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the message is valid, the pointers are to locals; on success the bytes belong to
        // the message, which `self` borrows.
        unsafe {
            let code = get(self.raw, &mut start, &mut length);
            let is_there = code == OK && !start.is_null();
            is_there.then(|| slice::from_raw_parts(start.cast::<u8>(), length as usize))
        }
    }

    fn attached_text(&self) -> Option<Bytes> {
        let mut start: *const c_char = ptr::null();
        // SAFETY: the message is valid, the pointer is to a local; the text belongs to the message.
        unsafe {
            let code = sys::solClient_msg_getBinaryAttachmentString(self.raw, &mut start);
            let is_there = code == OK && !start.is_null();
            is_there.then(|| Bytes::copy_from_slice(CStr::from_ptr(start).to_bytes()))
        }
    }

    /// The user properties, their values as text.
    pub(crate) fn properties(&self) -> Vec<(String, String)> {
        let mut properties = Vec::new();
        let mut map = ptr::null_mut();
        // SAFETY: the message is valid; the map is closed before the message goes; names and
        // values belong to the message and are copied at once.
        unsafe {
            if sys::solClient_msg_getUserPropertyMap(self.raw, &mut map) != OK {
                return properties;
            }
            while let Some((name, value)) = next_field(map) {
                properties.extend(name.zip(value));
            }
            sys::solClient_container_closeMapStream(&mut map);
        }
        properties
    }
}

type PartGetter = unsafe extern "C" fn(
    sys::solClient_opaqueMsg_pt,
    sys::solClient_opaquePointer_pt,
    *mut sys::solClient_uint32_t,
) -> sys::solClient_returnCode_t;

/// The next field of a map: its name, and its value as text if it has one; `None` at the end.
///
/// # Safety
/// `map` is an open map.
unsafe fn next_field(
    map: sys::solClient_opaqueContainer_pt,
) -> Option<(Option<String>, Option<String>)> {
    let mut field = sys::solClient_field {
        type_: sys::solClient_fieldType_SOLCLIENT_UNKNOWN,
        length: 0,
        value: sys::solClient_field__bindgen_ty_1 { uint64: 0 },
    };
    let mut name: *const c_char = ptr::null();
    // SAFETY: the map is open; the pointers are to locals; the field is valid while the map is.
    unsafe {
        let size = size_of_val(&field);
        if sys::solClient_container_getNextField(map, &mut field, size, &mut name) != OK {
            return None;
        }
        Some((text(name), value_text(&field)))
    }
}

/// A value as text: numbers in decimal, booleans as `true` or `false`, bytes as they are if they are UTF-8, else in
/// base64. `None` for what has no text: null, maps, streams and destinations.
///
/// # Safety
/// The library has filled in the field, and the message that it is of is still there.
unsafe fn value_text(field: &sys::solClient_field) -> Option<String> {
    let value = &field.value;
    // SAFETY: the type says which member is in use; what it points to belongs to the message.
    unsafe {
        Some(match field.type_ {
            sys::solClient_fieldType_SOLCLIENT_BOOL => (value.boolean != 0).to_string(),
            sys::solClient_fieldType_SOLCLIENT_UINT8 => value.uint8.to_string(),
            sys::solClient_fieldType_SOLCLIENT_INT8 => value.int8.to_string(),
            sys::solClient_fieldType_SOLCLIENT_UINT16 => value.uint16.to_string(),
            sys::solClient_fieldType_SOLCLIENT_INT16 => value.int16.to_string(),
            sys::solClient_fieldType_SOLCLIENT_UINT32 => value.uint32.to_string(),
            sys::solClient_fieldType_SOLCLIENT_INT32 => value.int32.to_string(),
            sys::solClient_fieldType_SOLCLIENT_UINT64 => value.uint64.to_string(),
            sys::solClient_fieldType_SOLCLIENT_INT64 => value.int64.to_string(),
            sys::solClient_fieldType_SOLCLIENT_FLOAT => value.float32.to_string(),
            sys::solClient_fieldType_SOLCLIENT_DOUBLE => value.float64.to_string(),
            sys::solClient_fieldType_SOLCLIENT_WCHAR => {
                char::from_u32(u32::try_from(value.wchar).ok()?)?.to_string()
            }
            sys::solClient_fieldType_SOLCLIENT_STRING => text(value.string)?,
            sys::solClient_fieldType_SOLCLIENT_BYTEARRAY if value.bytearray.is_null() => {
                String::new()
            }
            sys::solClient_fieldType_SOLCLIENT_BYTEARRAY => {
                bytes_text(slice::from_raw_parts(value.bytearray, field.length as usize))
            }
            _ => return None,
        })
    }
}

fn bytes_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => BASE64_STANDARD.encode(bytes),
    }
}

/// # Safety
/// `start` is null or points to a NUL-terminated string.
unsafe fn text(start: *const c_char) -> Option<String> {
    if start.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller's promise.
    Some(unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned())
}

/// The vendor keeps the layout of the id to itself and gives out its text. The layout is learned
/// once from an id whose text is known; if it is a new one, every message pays for the text.
fn decode_offset(id: &mut sys::solClient_replicationGroupMessageId) -> Option<Offset> {
    static IS_BIG_ENDIAN_PAIR: OnceLock<bool> = OnceLock::new();
    if *IS_BIG_ENDIAN_PAIR.get_or_init(probe_layout) {
        return Some(pair(id));
    }
    let mut buffer = [0u8; OFFSET_TEXT];
    // SAFETY: both pointers are to locals of the given sizes.
    let code = unsafe {
        let size = size_of_val(id);
        let start = buffer.as_mut_ptr().cast();
        sys::solClient_replicationGroupMessageId_toString(id, size, start, buffer.len())
    };
    let text = CStr::from_bytes_until_nul(&buffer).ok()?.to_str().ok()?;
    if code == OK { text.parse().ok() } else { None }
}

fn pair(id: &sys::solClient_replicationGroupMessageId) -> Offset {
    let half = |start: usize| {
        let bytes = &id.replicationGroupMessageId[start..start + 8];
        bytes.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte as u8))
    };
    Offset::new(half(0), half(8))
}

fn probe_layout() -> bool {
    let known = Offset::new(0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
    let mut id = sys::solClient_replicationGroupMessageId { replicationGroupMessageId: [0; 16] };
    let Ok(text) = std::ffi::CString::new(known.to_string()) else { return false };
    // SAFETY: the pointer is to a local of the given size, the text is NUL-terminated.
    let code = unsafe {
        let size = size_of_val(&id);
        sys::solClient_replicationGroupMessageId_fromString(&mut id, size, text.as_ptr())
    };
    code == OK && pair(&id) == known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::Outbound;
    use crate::ffi::library::{check, initialize};

    /// The properties of a message to which `add` has added some.
    fn properties(add: impl FnOnce(sys::solClient_opaqueContainer_pt)) -> Vec<(String, String)> {
        initialize().unwrap();
        let message = Outbound::new("t", b"{}").unwrap();
        let mut map = ptr::null_mut();
        // SAFETY: the message is alive until the end of this function; the map is closed before it is read.
        unsafe {
            check(sys::solClient_msg_createUserPropertyMap(message.raw(), &mut map, 256)).unwrap();
            add(map);
            check(sys::solClient_container_closeMapStream(&mut map)).unwrap();
            Delivery::new(message.raw()).properties()
        }
    }

    #[test]
    fn a_property_of_any_type_keeps_its_value() {
        // SAFETY: the map is open; the library copies names and values.
        let found = properties(|map| unsafe {
            let bytes = [0xff, 0x00];
            for code in [
                sys::solClient_container_addInt64(
                    map,
                    1_706_000_000_000,
                    c"cdc_timestamp".as_ptr(),
                ),
                sys::solClient_container_addUint8(map, 200, c"byte".as_ptr()),
                sys::solClient_container_addBoolean(map, 1, c"__deleted".as_ptr()),
                sys::solClient_container_addDouble(map, 0.5, c"share".as_ptr()),
                sys::solClient_container_addByteArray(map, bytes.as_ptr(), 2, c"raw".as_ptr()),
                sys::solClient_container_addByteArray(map, b"abc".as_ptr(), 3, c"text".as_ptr()),
                sys::solClient_container_addString(map, c"100".as_ptr(), c"cdc_scn".as_ptr()),
                sys::solClient_container_addNull(map, c"nothing".as_ptr()),
            ] {
                check(code).unwrap();
            }
        });
        let expected = [
            ("cdc_timestamp", "1706000000000"),
            ("byte", "200"),
            ("__deleted", "true"),
            ("share", "0.5"),
            ("raw", "/wA="),
            ("text", "abc"),
            ("cdc_scn", "100"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
