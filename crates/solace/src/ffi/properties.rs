//! Properties for contexts, sessions, flows and queues.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use crate::failure::Failure;

/// Names and values for a `create` call of the library.
pub(crate) struct Properties(Vec<CString>);

impl Properties {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// `name` is one of the binding's constants, which end in a NUL.
    ///
    /// # Errors
    /// If the value holds a NUL, which no C string can.
    pub(crate) fn set(&mut self, name: &'static [u8], value: &str) -> Result<(), Failure> {
        let name = CStr::from_bytes_until_nul(name).map_err(|_| Failure::nul("property name"))?;
        let value = CString::new(value).map_err(|_| Failure::nul(&name.to_string_lossy()))?;
        self.0.extend([name.to_owned(), value]);
        Ok(())
    }

    /// The null-terminated array; valid while `self` is.
    pub(super) fn pointers(&self) -> Vec<*const c_char> {
        self.0.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    }
}
