//! Filling a message to publish.

use std::ffi::{CString, c_char};
use std::ptr;

use solace_rs_sys as sys;

use super::library::check;
use crate::failure::Failure;

/// Bytes that the user property map starts with; it grows.
const PROPERTY_MAP_SIZE: u32 = 128;

/// A persistent message, not sent yet.
pub(crate) struct Outbound {
    raw: sys::solClient_opaqueMsg_pt,
}

impl Outbound {
    pub(crate) fn new(topic: &str, payload: &[u8]) -> Result<Self, Failure> {
        let mut raw = ptr::null_mut();
        // SAFETY: the pointer is to a local; `drop` frees the message.
        let message = unsafe { check(sys::solClient_msg_alloc(&mut raw)).map(|()| Self { raw })? };
        let topic = c_text("topic", topic)?;
        let mut destination = sys::solClient_destination {
            destType: sys::solClient_destinationType_SOLCLIENT_TOPIC_DESTINATION,
            dest: topic.as_ptr(),
        };
        let length = u32::try_from(payload.len())
            .map_err(|_| Failure::new(0, "", "payload is above 4 GB"))?;
        // SAFETY: the message is ours; the library copies topic and payload.
        unsafe {
            let size = size_of_val(&destination);
            check(sys::solClient_msg_setDestination(message.raw, &mut destination, size))?;
            let mode = sys::SOLCLIENT_DELIVERY_MODE_PERSISTENT;
            check(sys::solClient_msg_setDeliveryMode(message.raw, mode))?;
            if !payload.is_empty() {
                let start = payload.as_ptr().cast();
                check(sys::solClient_msg_setBinaryAttachment(message.raw, start, length))?;
            }
        }
        Ok(message)
    }

    pub(super) fn raw(&self) -> sys::solClient_opaqueMsg_pt {
        self.raw
    }

    /// What the acknowledgement of this message will carry.
    pub(crate) fn set_tag(&mut self, tag: u64) -> Result<(), Failure> {
        let size = size_of_val(&tag) as u32;
        // SAFETY: the message is ours; the library copies the bytes.
        unsafe {
            let start = ptr::from_ref(&tag).cast();
            check(sys::solClient_msg_setCorrelationTag(self.raw, start, size))
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn set_sent_at(&mut self, at_ms: i64) -> Result<(), Failure> {
        // SAFETY: the message is ours.
        unsafe { check(sys::solClient_msg_setSenderTimestamp(self.raw, at_ms)) }
    }

    pub(crate) fn set_message_id(&mut self, id: &str) -> Result<(), Failure> {
        let id = c_text("application message id", id)?;
        // SAFETY: the message is ours; the library copies the text.
        unsafe { check(sys::solClient_msg_setApplicationMessageId(self.raw, id.as_ptr())) }
    }

    pub(crate) fn set_properties(
        &mut self,
        properties: &[(String, String)],
    ) -> Result<(), Failure> {
        if properties.is_empty() {
            return Ok(());
        }
        let mut map = ptr::null_mut();
        // SAFETY: the message is ours; the library copies names and values; the map is closed
        // before anything else happens to the message.
        unsafe {
            check(sys::solClient_msg_createUserPropertyMap(self.raw, &mut map, PROPERTY_MAP_SIZE))?;
            let added = properties.iter().try_for_each(|(name, value)| {
                let (name, value) = (c_text("property name", name)?, c_text(name, value)?);
                let (name, value): (*const c_char, *const c_char) = (name.as_ptr(), value.as_ptr());
                check(sys::solClient_container_addString(map, value, name))
            });
            check(sys::solClient_container_closeMapStream(&mut map))?;
            added
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        // SAFETY: allocated by us, freed once.
        unsafe { sys::solClient_msg_free(&mut self.raw) };
    }
}

fn c_text(what: &str, text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::nul(what))
}
