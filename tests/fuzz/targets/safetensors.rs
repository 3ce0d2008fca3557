//! The arrays of a bundle: the header of a safetensors file, and the names in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_fuzz::file_of;
use ndt_protocol::bundle::tensors;

fuzz_target!(|bytes: &[u8]| {
    let names = tensors::names(&file_of(bytes));
    match tensors::from_bytes(bytes) {
        Ok(arrays) => {
            assert_eq!(names.len(), arrays.len());
            for (shape, values) in arrays.values() {
                assert_eq!(shape.iter().product::<usize>(), values.len());
            }
            let again = tensors::from_bytes(&tensors::to_bytes(&arrays)).unwrap();
            assert!(again.keys().eq(arrays.keys()));
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
