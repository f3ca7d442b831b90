use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use super::*;

const RUN_AS_1: &str = "rules: [{user: 1000, run_as: [1]}]";

struct Site {
    directory: tempfile::TempDir,
    policy: PolicyFile,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let policy = PolicyFile::new(directory.path().join("policy.yaml"));
        Self { directory, policy }
    }

    fn write(&self, text: &str) {
        fs::write(&self.policy.path, text).unwrap();
    }

    fn mode(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Whether user 1000 may run as user 1 by the policy.
    fn allows(&self) -> bool {
        let caller = self.policy.allow(Caller::new(1, 1000, 1000, Vec::new()));
        assert_eq!(caller.permits.file, self.policy.path);
        caller.permits.run_as.holds(&1, false)
    }

    /// The one warning, without what all have.
    fn warning(&self) -> String {
        let warnings = self.policy.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let what = "the policy is not taken, and what was allowed before goes on: ";
        warnings[0].strip_prefix(what).unwrap_or(&warnings[0]).replace(self.shown(), "DIR")
    }

    fn shown(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }
}

#[test]
fn it_is_in_force_while_it_is_there() {
    let site = Site::new();
    assert!(!site.allows());
    assert_eq!(site.policy.warnings(), Vec::<String>::new());
    site.write(RUN_AS_1);
    assert!(site.allows());
    site.write("rules: []");
    assert!(!site.allows());
    site.write(RUN_AS_1);
    assert!(site.allows());
    fs::remove_file(&site.policy.path).unwrap();
    assert!(!site.allows(), "what is gone allows nothing");
    assert_eq!(site.policy.warnings(), Vec::<String>::new());
}

#[test]
fn a_bad_one_leaves_the_former_in_force() {
    let site = Site::new();
    site.write("rules: [{user: 1000, runas: [1]}]");
    assert!(!site.allows());
    site.write(RUN_AS_1);
    assert!(site.allows());
    for bad in
        ["", "rules: [{user: 1000, run_as: [", "rules: [{user: 1000, run_as: [2], adpot: 3}]"]
    {
        site.write(bad);
        assert!(site.allows(), "{bad}");
        assert!(site.warning().starts_with("DIR/policy.yaml:"), "{}", site.warning());
    }
    assert!(site.warning().ends_with("unknown key; did you mean \"adopt\"?"), "{}", site.warning());
    site.write("rules: [{user: 1000, run_as: [2]}]");
    assert!(!site.allows());
    assert_eq!(site.policy.warnings(), Vec::<String>::new());
}

#[test]
fn what_others_could_have_written_is_not_taken() {
    let site = Site::new();
    let (file, directory) = (site.policy.path.clone(), site.directory.path().to_owned());
    site.write(RUN_AS_1);
    for mode in [0o664, 0o646] {
        site.mode(&file, mode);
        assert!(!site.allows());
        let said = format!(
            "DIR/policy.yaml is writable by others than root (mode {mode:03o}): \
             `chmod go-w DIR/policy.yaml`"
        );
        assert_eq!(site.warning(), said);
    }
    site.mode(&file, 0o644);
    site.mode(&directory, 0o777);
    assert!(!site.allows());
    assert_eq!(site.warning(), "DIR is writable by others than root (mode 777): `chmod go-w DIR`");
    site.mode(&directory, 0o755);
    chown(&file, Some(1000), None).unwrap();
    assert!(!site.allows());
    let said = "DIR/policy.yaml belongs to user 1000, not to root: `chown root DIR/policy.yaml`";
    assert_eq!(site.warning(), said);
    chown(&file, Some(0), None).unwrap();
    assert!(site.allows());
}

#[test]
fn a_link_is_as_good_as_where_it_stands_and_leads() {
    let site = Site::new();
    let elsewhere = site.directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("policy"), RUN_AS_1).unwrap();
    symlink(elsewhere.join("policy"), &site.policy.path).unwrap();
    site.mode(&elsewhere, 0o777);
    assert!(!site.allows());
    site.mode(&elsewhere, 0o755);
    site.mode(site.directory.path(), 0o777);
    assert!(!site.allows());
    site.mode(site.directory.path(), 0o755);
    assert!(site.allows());
}

#[test]
fn what_is_no_file_is_told() {
    let site = Site::new();
    fs::create_dir(&site.policy.path).unwrap();
    assert!(!site.allows());
    assert_eq!(site.warning(), "DIR/policy.yaml is no regular file of at most 1048576 bytes");
    fs::remove_dir(&site.policy.path).unwrap();
    fs::write(&site.policy.path, [0xff, 0xfe]).unwrap();
    assert!(site.warning().starts_with("DIR/policy.yaml cannot be read: "), "{}", site.warning());
}

#[test]
fn names_that_are_nobodys_are_told() {
    let site = Site::new();
    site.write("rules: [{group: no-such-group, run_as: [root, no-such-user]}]");
    let at = site.policy.path.display();
    assert_eq!(
        site.policy.warnings(),
        [
            format!("{at}: rules[0].run_as: there is no user no-such-user"),
            format!("{at}: rules[0].group: there is no group no-such-group"),
        ]
    );
}

#[test]
fn an_owner_has_what_its_groups_are_allowed() {
    let site = Site::new();
    site.write("rules: [{group: '1000', run_as: [1]}]");
    let owner = |uid, gid| site.policy.allow_owner(Owner { uid, gid });
    assert!(owner(7, 1000).permits.run_as.holds(&1, false));
    assert!(!owner(7, 7).permits.run_as.holds(&1, false));
    assert!(site.policy.allow_owner(Owner { uid: 0, gid: 0 }).is_root());
}
