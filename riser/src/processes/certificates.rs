//! Certificates of a cluster: one authority, one certificate per role.

use crate::clock;
use crate::failure::{Hint, Usage};
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use riser_proto::access::role::Role;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How long certificates are good for.
const YEARS: i32 = 10;

/// The name that workers which hand policies on are known by, wherever they are: they come and go, and so do their hosts.
pub(crate) const RELAY_NAME: &str = "riser-worker";

/// The names that others connect to `role` by.
fn names_of(role: Role, hosts: &[String]) -> Vec<String> {
    match role {
        Role::Coordinator | Role::Learner => {
            let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            [&local[..], hosts].concat()
        }
        Role::Worker => vec![RELAY_NAME.to_owned()],
        Role::Watcher | Role::Operator => vec![],
    }
}

/// Writes `ca.pem`, `ca.key` and a pair for each role into `folder`; returns the files in that order.
///
/// # Errors
/// [`Usage`] if one of the files is there already; nothing is written then.
pub(crate) fn write(folder: &Path, hosts: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let names = ["ca"].into_iter().chain(Role::ALL.map(Role::name));
    let files: Vec<PathBuf> =
        names.flat_map(|name| [folder.join(format!("{name}.pem")), folder.join(format!("{name}.key"))]).collect();
    if let Some(there) = files.iter().find(|file| file.exists()) {
        return Err(Usage(format!("{} exists", there.display())))
            .hint(|| "choose a new folder; certificates in use must not be replaced by accident".to_owned());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;

    let mut authority = params("riser authority", &[])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut texts = vec![authority.pem(), authority.key().serialize_pem()];
    for role in Role::ALL {
        let mut params = params(&format!("riser {role}"), &names_of(role, hosts))?;
        params.subject_alt_names.push(SanType::URI(role.uri().try_into()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        texts.extend([params.signed_by(&key, &authority)?.pem(), key.serialize_pem()]);
    }
    for (file, text) in files.iter().zip(&texts) {
        create(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(files)
}

fn params(name: &str, hosts: &[String]) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(hosts)
        .with_context(|| format!("not names that a certificate can be for: {}", hosts.join(", ")))?;
    params.distinguished_name.push(DnType::CommonName, name);
    let (year, month, day) = clock::today();
    // A year back, for clocks that are behind; the 28th at most, which every month has.
    params.not_before = date_time_ymd(year - 1, month, day.min(28));
    params.not_after = date_time_ymd(year + YEARS, month, day.min(28));
    Ok(params)
}

/// Creates a file that only its owner can read, if it is a key.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let is_key = path.extension().is_some_and(|extension| extension == "key");
    let mode = if is_key { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_for_their_owner_only_and_nothing_is_ever_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("certs");
        let files = write(&folder, &["trainer.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        assert_eq!(files.len(), 12);
        for file in &files {
            let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
            let is_key = file.extension().unwrap() == "key";
            assert!(!is_key || mode == 0o600, "{} has mode {mode:o}", file.display());
            let text = std::fs::read_to_string(file).unwrap();
            assert_eq!(text.contains("PRIVATE KEY"), is_key, "{}", file.display());
        }
        let before = std::fs::read(&files[1]).unwrap();
        std::fs::remove_file(&files[0]).unwrap();
        assert!(write(&folder, &[]).unwrap_err().to_string().ends_with("ca.key exists"));
        assert_eq!(std::fs::read(&files[1]).unwrap(), before);
        assert!(!files[0].exists());
    }
}
