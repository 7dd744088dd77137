//! Secrets: read from files, never from flags or variables, and only where the file's rights are sane.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The first line of the file at `path`. Refuses a file that everybody may read, and an empty secret.
pub fn read(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("reading the secret in {}: {error}", path.display());
    let mode = std::fs::metadata(path).map_err(told)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!(
            "{} has the rights {:o}: everybody may use it; try chmod 600 {0}",
            path.display(),
            mode & 0o777
        ));
    }
    let text = std::fs::read_to_string(path).map_err(told)?;
    match text.lines().next().unwrap_or_default().trim() {
        "" => Err(format!("{}: the first line is empty, expected the secret", path.display())),
        secret => Ok(secret.to_owned()),
    }
}

/// Refuses a file that everybody may write: whoever does would configure the node.
pub fn not_writable_by_all(path: &Path) -> Result<(), String> {
    let mode = std::fs::metadata(path).map_err(|e| e.to_string())?.permissions().mode();
    if mode & 0o002 == 0 {
        return Ok(());
    }
    Err(format!("has the rights {:o}: everybody may write it; try chmod o-w", mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_a_file_that_is_not_for_everybody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let mode = |bits| std::fs::Permissions::from_mode(bits);
        std::fs::write(&path, "s3cret \nsecond\n").expect("a file");
        std::fs::set_permissions(&path, mode(0o644)).expect("ours");
        let refused = read(&path).expect_err("readable by all");
        assert!(refused.contains("chmod 600") && !refused.contains("s3cret"), "{refused}");
        std::fs::set_permissions(&path, mode(0o600)).expect("ours");
        assert_eq!(read(&path).as_deref(), Ok("s3cret"));
        std::fs::write(&path, "\nx").expect("a file");
        assert!(read(&path).is_err());
        assert!(read(&folder.path().join("none")).is_err());
        std::fs::set_permissions(&path, mode(0o666)).expect("ours");
        assert!(not_writable_by_all(&path).is_err());
    }
}
