//! Golden files: the bytes that a version writes, which never change again.

use ndt_protocol::bundle::sha256;
use std::path::{Path, PathBuf};

/// The golden files of each version with their sha256. An entry is never changed: bytes of another meaning need a new
/// version, and with it files of other names. Entries of old versions stay when their files are removed.
const DIGESTS: &[(&str, &str)] = &[
    ("bin-v2.frames", "95d776c5fe81f9a82083095fdf731b7c1da516b8006f7eb005da851f747d4e48"),
    ("bundle-linear-v4.ndt", "eacc756f3dc5161d4030298f39747fc8a3c916346b8317c87e1a8b9cbba552d5"),
    ("bundle-linear-v5.ndt", "d9e28c1d540c7351e5f5eff73f92ac24720b5367f7a981ca531ccb994413c46b"),
    ("bundle-readouts-v4.ndt", "7b24f894d55099f948591e3e37af576a1847bdfd244eb406db52622a9422c778"),
    ("bundle-readouts-v5.ndt", "9969acaef70338de1cd2590a45703ec30d1d1fb474cad79001e7aebf29efd699"),
    ("bundle-v4.ndt", "fecfca630e523596c17fe645fc62d5a8dc90a31dc8a43ed13109876bc1f62899"),
    ("bundle-v5.ndt", "3b4567838d76049235ec8c3c50d3a6140c7b259e785e8e6fcc4dffc8ee2731f7"),
    ("bundle-v6.ndt", "5f6b04546e2205103ab9cc6a9948db988db9bd3be1a01a037bc192edd585d406"),
    ("bundle-linear-v6.ndt", "ac86a83fa76a6280caed554d286f87c7f299b6d343916e668c695d2c8d1ccf81"),
    ("bundle-readouts-v6.ndt", "8b9228a9c619365459643f985cddb2bdf4ac7d893fca0f05b886d0b300fe89c9"),
    ("bundle-v7.ndt", "39147d9ae6463307f9abdfa215c358ab259232d2c7a7bfde16dda116b841b72e"),
    ("bundle-linear-v7.ndt", "c74504b5275bcb4b6d7587cd4bb9e848b7c4fb2628d8b513dc5a93270fb16544"),
    ("bundle-readouts-v7.ndt", "72927b7b06d00b416ca5a12cb6d67cee04136241b13065a7536b0c8ae64aa3d7"),
    ("bundle-v8.ndt", "0dca63ae678e0ddcc699f4899f24207db2509ab25b0c9863b7af9e72cc854f37"),
    ("bundle-linear-v8.ndt", "d0c66850a93b525de4ae676cb9ebd6f14fbcf4588026846f34a25b7ce1b29586"),
    ("bundle-readouts-v8.ndt", "0fefcad85ccf309ad13a1c8108827479436e2b9ddd0d94502c78155bc3ab3efc"),
    ("description-bins-v2.frames", "a6607169596baf4cc15ccee69869aea55bafe75a068dbfd16321647ca12d792c"),
    ("description-v2.frames", "d43208114173987cf3ca6b0d9bb4f0aaca0f27d9b6e912873c80cabf755e1d5a"),
    ("estimate-v2.frames", "0820a5afb1ab6afb0c6d3b38f1909be35115d97b4ed8bedaa62cb6a32dbed2c6"),
    ("bin-v3.frames", "fed0c3b94bb88b3074b700ce0c2d1ad69930fd8442ae550a5c305f0240d42725"),
    ("description-bins-v3.frames", "9815268f094d6efb7b7e4710621a122630d61d7b39bcdf215040ee6010278a3e"),
    ("description-v3.frames", "8f5fec882e78b84f0860f97b92a83046861672c3a9d6f8afd21b61ad4934d90f"),
    ("estimate-v3.frames", "a584ad05e0afa2701b63f9cee321fc0a757e357f807b2bc3d3eb13a25e3fa37a"),
    ("session-v1.ndtlog", "1440a44f947e1a2a605cb36f3f7d20ea54b626a33829ef22d246e9574c602ea0"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares `bytes` with the golden file `name`, and the file with its listed digest. With `UPDATE_GOLDEN=1` in the
/// environment, a file that does not exist yet is written first; one that exists is never changed.
pub fn check(name: &str, bytes: &[u8]) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    let Ok(golden) = std::fs::read(&path) else {
        panic!("expected a golden file {name}, found none; a new version is written with UPDATE_GOLDEN=1");
    };
    let digest = sha256(&golden);
    match DIGESTS.iter().find(|(listed, _)| *listed == name) {
        Some((_, listed)) => assert_eq!(&digest, listed, "{name} was changed, which needs a new version"),
        None => {
            panic!("expected the digest of {name} in DIGESTS, found none; add (\"{name}\", \"{digest}\")")
        }
    }
    assert!(golden == bytes, "the bytes of {name} changed, which needs a new version");
}
