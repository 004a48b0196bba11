// A pack that is not as it was made. Its reader refuses it before anything is touched.
import { UsageError } from "../errors.ts";

export class AlteredPackError extends UsageError {}
