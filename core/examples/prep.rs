use riser_core::prepare::*;
fn main() {
    let mut args = std::env::args().skip(1);
    let options: PrepareOptions = toml::from_str(&std::fs::read_to_string(args.next().unwrap()).unwrap()).unwrap();
    let out = args.next().unwrap();
    match prepare(&options, std::path::Path::new(&out), &mut |e| println!("{e:?}")) {
        Ok(folder) => println!("{} {:?}", folder.digest(), folder.manifest().counts),
        Err(error) => println!("ERROR {error}"),
    }
}
