// This agent's version, as it stands in package.json: the one place where it is written.
import packageFile from "../package.json" with { type: "json" };

export const agentVersion: string = packageFile.version;
