//! Where this package's programs find the Solace client library: where it was built, or beside the program.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Not there if the library is linked statically.
    if let Ok(folder) = std::env::var("DEP_TIDEMARK_SOLACE_FOLDER") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN:$ORIGIN/../lib");
    }
}
