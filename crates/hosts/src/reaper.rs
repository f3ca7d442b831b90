//! Takes away what a process made once it is gone, however it ended.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::Error;

/// Waits until the other end of its standard input is closed. Then agents end whose pins have that
/// name, the processes of its cgroups with them, and cgroups, pins and files go. The kernel has no
/// event for "the last dying process left its cgroup", so that is tried again and again.
const SCRIPT: &str = r#"
name=$1
cat > /dev/null
for process in /proc/[0-9]*; do
    tr '\0' '\n' < "$process/environ" | grep -q "^SINEW_PINS=.*/$name" && kill -9 "${process#/proc/}"
done
for try in $(seq 200); do
    left=
    for mount in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d ' ' -f 5); do
        for cgroup in $(find "$mount" -depth -type d -path "*/$name*"); do
            [ -e "$cgroup/cgroup.kill" ] && echo 1 > "$cgroup/cgroup.kill"
            rmdir "$cgroup" || left=$cgroup
        done
    done
    [ -z "$left" ] && break
    sleep 0.1
done
rm -rf "/sys/fs/bpf/$name"* "${TMPDIR:-/tmp}/$name"*
"#;

/// Has everything taken away whose name begins with `prefix`, which must be this process's alone,
/// when this process is gone.
///
/// # Errors
/// When the reaper cannot be started.
pub fn watch(prefix: &str) -> Result<(), Error> {
    static REAPERS: Mutex<BTreeMap<String, Child>> = Mutex::new(BTreeMap::new());
    let mut reapers = REAPERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !reapers.contains_key(prefix) {
        // A session of its own: the terminal's signals are for us.
        let reaper = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "reaper", prefix])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::io("start", Path::new("setsid"), e))?;
        reapers.insert(prefix.to_owned(), reaper);
    }
    Ok(())
}
