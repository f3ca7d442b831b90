//! What workloads may do, as the kernel tells it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Place, end, field};
use sinew_workload::{Exit, LaunchSpec};

async fn output_of(place: &Place, spec: &LaunchSpec) -> String {
    let mut supervised = place.start(spec).await;
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 0 }, "{}", place.log());
    place.log()
}

fn set(status: &str, name: &str) -> u64 {
    u64::from_str_radix(&field(status, name), 16).unwrap()
}

const TAKEN: [(&str, u32); 8] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_RAWIO", 17),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

#[tokio::test]
async fn a_workload_of_root_lacks_what_reaches_beyond_it() {
    let place = Place::new();
    let status = output_of(&place, &place.program(&["cat", "/proc/self/status"])).await;
    assert_eq!(field(&status, "Uid:"), "0\t0\t0\t0");
    assert_eq!(field(&status, "NoNewPrivs:"), "1");
    for sets in ["CapBnd:", "CapPrm:", "CapEff:"] {
        let held = set(&status, sets);
        for (name, number) in TAKEN {
            assert_eq!(held >> number & 1, 0, "{name} in {sets}");
        }
        assert_eq!(held >> 10 & 1, 1, "CAP_NET_BIND_SERVICE in {sets}");
        assert_eq!(held >> 41, 0);
    }
    assert_eq!((set(&status, "CapInh:"), set(&status, "CapAmb:")), (0, 0));
}

/// What a workload of root can see and change of what would undo Sinew.
const REACH: &str = r#"
hidden=$1
own=$(grep -m1 ' - cgroup2 ' /proc/self/mountinfo | cut -d' ' -f5)$(sed -n 's/^0:://p' /proc/self/cgroup)
(echo 0 > $own/cgroup.procs) 2>/dev/null && echo moves || echo stays
(mkdir $own/mine) 2>/dev/null && rmdir $own/mine && echo made || echo makes none
echo "sees: $(ls -A $hidden 2>&1)"
umount $hidden 2>/dev/null && echo uncovered || echo covered
"#;

#[tokio::test]
async fn a_workload_of_root_neither_sees_pins_nor_changes_cgroups() {
    let place = Place::new();
    let hidden = place.path("state");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("secret"), "").unwrap();
    let mut spec = place.script(REACH);
    spec.argv.extend(["sh".to_owned(), hidden.display().to_string()]);
    spec.hidden = vec![hidden.clone(), place.path("is not there")];
    assert_eq!(output_of(&place, &spec).await, "stays\nmakes none\nsees: \ncovered\n");
    assert!(hidden.join("secret").exists(), "others see it as before");
}

#[tokio::test]
async fn who_keeps_the_right_to_mount_sees_everything() {
    let place = Place::new();
    let seen = place.path("state");
    std::fs::create_dir(&seen).unwrap();
    std::fs::write(seen.join("secret"), "").unwrap();
    let mut spec = place.program(&["ls", &seen.display().to_string()]);
    spec.hidden = vec![seen];
    spec.privileges.keep_capabilities = vec!["CAP_SYS_ADMIN".into()];
    assert_eq!(output_of(&place, &spec).await, "secret\n");
}

#[tokio::test]
async fn a_workload_keeps_what_it_is_told_to() {
    let place = Place::new();
    let mut spec = place.program(&["cat", "/proc/self/status"]);
    spec.privileges.keep_capabilities = vec!["CAP_NET_ADMIN".into()];
    spec.privileges.no_new_privileges = false;
    let status = output_of(&place, &spec).await;
    assert_eq!(set(&status, "CapEff:") >> 12 & 1, 1);
    assert_eq!(set(&status, "CapEff:") >> 21 & 1, 0);
    assert_eq!(field(&status, "NoNewPrivs:"), "0");
}

#[tokio::test]
async fn a_workload_of_another_user_has_nothing_of_root() {
    let place = Place::new();
    let mut spec = place.script("cat /proc/self/status; echo \"HOME=$HOME USER=$USER\"");
    spec.user = Some("nobody".into());
    let status = output_of(&place, &spec).await;
    assert_eq!(field(&status, "Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!(field(&status, "Gid:"), "65534\t65534\t65534\t65534");
    assert_eq!(field(&status, "Groups:"), "65534");
    for sets in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(set(&status, sets), 0, "{sets}");
    }
    assert_eq!(set(&status, "CapBnd:") >> 21 & 1, 0);
    assert!(status.contains("HOME=/nonexistent USER=nobody"), "{status}");
}

#[tokio::test]
async fn a_caller_by_number_has_its_own_groups_only() {
    let place = Place::new();
    let mut spec = place.program(&["cat", "/proc/self/status"]);
    spec.uid_gid_of_caller = (12345, 12346);
    let status = output_of(&place, &spec).await;
    assert_eq!(field(&status, "Uid:"), "12345\t12345\t12345\t12345");
    assert_eq!(field(&status, "Groups:"), "12346");
}

#[tokio::test]
async fn a_workload_inherits_neither_files_nor_signals_nor_session() {
    let place = Place::new();
    let script = "ls -l /proc/$$/fd; umask; cat /proc/$$/oom_score_adj /proc/$$/cgroup; \
                  exec cat /proc/self/status /proc/self/stat";
    let log = output_of(&place, &place.script(script)).await;
    let files: Vec<&str> = log.lines().filter(|line| line.contains(" -> ")).collect();
    assert_eq!(files.len(), 3, "{log}");
    assert!(files[0].ends_with("/dev/null"), "{log}");
    assert!(files[1].ends_with("/log") && files[2].ends_with("/log"), "{log}");
    assert!(log.lines().any(|line| line == "0022"), "{log}");
    assert_eq!((set(&log, "SigBlk:"), set(&log, "SigIgn:")), (0, 0));
    let stat = log.lines().find(|line| line.contains(" (cat) ")).unwrap();
    let fields: Vec<&str> = stat.split(' ').collect();
    assert_eq!(fields[0], fields[5], "leads its session");
    assert!(log.lines().any(|line| line == "0"), "oom_score_adj: {log}");
    assert!(log.contains("0::/sinew-test-"), "{log}");
    assert!(log.contains("/members/svc-test/0"), "{log}");
}

#[tokio::test]
async fn a_directory_that_the_user_may_not_enter_is_refused() {
    let place = Place::new();
    let secret = place.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut spec = place.script("true");
    spec.user = Some("nobody".into());
    spec.working_dir = secret.clone();
    let error =
        sinew_workload::start(&place.shims(), &place.dir(), &spec).await.unwrap_err().to_string();
    let expected = format!("test/0: working directory {}: permission denied", secret.display());
    assert_eq!(error, expected);
}
