#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = align_check_tests::hostile::openvino_xml(bytes);
});
