//! Runs a workload: cgroup, rights, output, restarts; survives the agent.
