//! Generates the gRPC code. protox is a compiler in Rust, so no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["group", "coordinator", "catalog", "learner", "operator", "relay", "status"]
        .map(|name| format!("proto/riser/v1/{name}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    // `Bytes` fields are slices of the received frame or of the sent tensor: no copy on either side.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
