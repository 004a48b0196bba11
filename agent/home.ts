// Where everything of a node lies below its home folder. Paths only: makes and reads nothing.
import { join } from "node:path";

export interface Home {
  readonly root: string;
  readonly configFile: string;
  readonly manageKeyFile: string;
  readonly keyPrintFile: string;
  readonly appPasswordFile: string;
  readonly nodeCertificate: string;
  readonly nodeKey: string;
  readonly trustDir: string;
  readonly replicationDir: string;
  readonly packFile: string;
  readonly backupDir: string;
  readonly downloadFile: string;
  readonly runDir: string;
  readonly adminSocket: string;
  readonly stateFile: string;
  readonly mergeHoldFile: string;
  readonly postgresLog: string;
  /** What start_command or stop_command printed last. */
  readonly commandLog: string;
}

/** The layout below `root`, an absolute path. */
export function homeAt(root: string): Home {
  return {
    root,
    configFile: join(root, "conf", "agent.toml"),
    manageKeyFile: join(root, "conf", "manage_key.conf"),
    keyPrintFile: join(root, "conf", "key_print"),
    appPasswordFile: join(root, "conf", "app_password"),
    nodeCertificate: join(root, "conf", "tls", "node.crt"),
    nodeKey: join(root, "conf", "tls", "node.key"),
    trustDir: join(root, "conf", "tls", "trust"),
    replicationDir: join(root, "replication"),
    packFile: join(root, "replication", "HAPack.zip"),
    backupDir: join(root, "backup"),
    downloadFile: join(root, "replication", "HAPack.download"),
    runDir: join(root, "run"),
    adminSocket: join(root, "run", "agent.sock"),
    stateFile: join(root, "run", "state.json"),
    mergeHoldFile: join(root, "run", "merge_hold.json"),
    postgresLog: join(root, "run", "postgres.log"),
    commandLog: join(root, "run", "command.log"),
  };
}
