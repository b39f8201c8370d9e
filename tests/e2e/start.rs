//! A start that cannot work says why, and what to do.

use std::net::TcpListener;

use tempfile::tempdir;

use crate::appliance::{Appliance, command};

fn failed(path: &std::path::Path, settings: &[&str]) -> (Option<i32>, String) {
    let output = command(path, settings).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_taken_port_is_named() {
    let directory = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let setting = format!("receive.otlp_http.listen=\"{}\"", taken.local_addr().unwrap());
    let (code, text) = failed(&directory.path().join("data"), &[&setting]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&taken.local_addr().unwrap().to_string()), "{text}");
}

#[test]
fn a_directory_in_use_names_its_holder() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &[]);
    let (code, text) = failed(&directory.path().join("data"), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("pid {}", server.pid())) && text.contains("storage.path"),
        "{text}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let (code, text) = failed(&file.join("data"), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("storage.path"), "{text}");
}

#[test]
fn faults_in_the_config_come_all_at_once() {
    let directory = tempdir().unwrap();
    let (code, text) = failed(
        &directory.path().join("data"),
        &["wal.snyc=always", "block.max_bytes=much", "storage.backend=s3"],
    );
    assert_eq!(code, Some(64), "{text}");
    for word in ["wal.snyc", "sync", "block.max_bytes", "storage.backend"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}
