// Which system calls of x86_64 the sandbox refuses, and how. A deny-list below a ceiling: allow-lists break with each new
// glibc. Numbers are those of arch/x86/entry/syscalls/syscall_64.tbl; the reason stands beside each group.

/** Numbers from here on are calls that this table has not seen, and, from bit 30 on, all of x32. */
export const SYSCALL_CEILING = 466;

export const ERRNO = { EPERM: 1, ENOSYS: 38, EAFNOSUPPORT: 97 } as const;

export type SyscallGroup = {
  readonly reason: string;
  readonly errno: 'EPERM' | 'ENOSYS';
  readonly syscalls: Readonly<Record<string, number>>;
};

const eperm = (reason: string, syscalls: Readonly<Record<string, number>>): SyscallGroup => ({
  reason,
  errno: 'EPERM',
  syscalls,
});

export const DENIED_GROUPS: readonly SyscallGroup[] = [
  eperm("other processes' memory and descriptors", {
    ptrace: 101,
    process_vm_readv: 310,
    process_vm_writev: 311,
    kcmp: 312,
    pidfd_getfd: 438,
    process_madvise: 440,
    process_mrelease: 448,
  }),
  eperm('keyrings belong to the host uid, not to a namespace', { add_key: 248, request_key: 249, keyctl: 250 }),
  eperm('the kernel itself: programs, events, modules, its log', {
    bpf: 321,
    perf_event_open: 298,
    userfaultfd: 323,
    create_module: 174,
    init_module: 175,
    delete_module: 176,
    finit_module: 313,
    kexec_load: 246,
    kexec_file_load: 320,
    syslog: 103,
  }),
  eperm('mounts, old and new API, and ways around paths', {
    mount: 165,
    umount2: 166,
    pivot_root: 155,
    chroot: 161,
    open_tree: 428,
    move_mount: 429,
    fsopen: 430,
    fsconfig: 431,
    fsmount: 432,
    fspick: 433,
    mount_setattr: 442,
    name_to_handle_at: 303,
    open_by_handle_at: 304,
    fanotify_init: 300,
    fanotify_mark: 301,
    quotactl: 179,
    quotactl_fd: 443,
  }),
  eperm('namespaces and the machine', {
    unshare: 272,
    setns: 308,
    adjtimex: 159,
    settimeofday: 164,
    clock_settime: 227,
    clock_adjtime: 305,
    acct: 163,
    swapon: 167,
    swapoff: 168,
    reboot: 169,
    sethostname: 170,
    setdomainname: 171,
    iopl: 172,
    ioperm: 173,
    personality: 135,
  }),
  eperm('rarely used, often broken', {
    uselib: 134,
    ustat: 136,
    sysfs: 139,
    vhangup: 153,
    sysctl: 156,
    get_kernel_syms: 177,
    query_module: 178,
    nfsservctl: 180,
    afs_syscall: 183,
    lookup_dcookie: 212,
    mbind: 237,
    set_mempolicy: 238,
    get_mempolicy: 239,
    migrate_pages: 256,
    move_pages: 279,
    set_mempolicy_home_node: 450,
    lsm_list_modules: 461,
  }),
  eperm('System V and POSIX message queues outlive their maker', {
    shmget: 29,
    shmat: 30,
    shmctl: 31,
    semget: 64,
    semop: 65,
    semctl: 66,
    shmdt: 67,
    msgget: 68,
    msgsnd: 69,
    msgrcv: 70,
    msgctl: 71,
    semtimedop: 220,
    mq_open: 240,
    mq_unlink: 241,
    mq_timedsend: 242,
    mq_timedreceive: 243,
    mq_notify: 244,
    mq_getsetattr: 245,
  }),
  {
    reason:
      "io_uring passes this filter by; clone3's flags lie in memory, where a filter cannot look: glibc then uses clone",
    errno: 'ENOSYS',
    syscalls: { io_uring_setup: 425, io_uring_enter: 426, io_uring_register: 427, clone3: 435, map_shadow_stack: 453 },
  },
];

export const SYS_CLONE = 56;
export const SYS_IOCTL = 16;
export const SYS_SOCKET = 41;
export const SYS_SOCKETPAIR = 53;

/** NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
export const CLONE_NAMESPACES = 0x7e020080;

/** Terminal requests that type into, or change, a terminal that others read: TIOCSTI, TIOCLINUX, TIOCSETD. */
export const DENIED_IOCTLS: readonly number[] = [0x5412, 0x541c, 0x5423];

/** AF_UNIX and AF_NETLINK are bounded by the network namespace; AF_VSOCK and most others are not. */
export const SOCKET_FAMILIES: readonly number[] = [1, 16];
/** AF_INET and AF_INET6, only where the egress proxy is reachable. */
export const NETWORK_FAMILIES: readonly number[] = [2, 10];
