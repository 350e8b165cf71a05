// The exceptions of the package, named as in Python.

export class EdgecascadeError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** The file or the document is no cascade file, is damaged, or is of a newer format. */
export class ModelFileError extends EdgecascadeError {}

/** An argument has an invalid value. */
export class ArgumentError extends EdgecascadeError {}

/** An input does not fit the file. */
export class InputError extends EdgecascadeError {}

/** The remote gave no answer. `predict` never throws it: it answers locally, with the reason. */
export class RemoteError extends EdgecascadeError {}

/** No connection to the remote could be made. */
export class RemoteUnreachable extends RemoteError {}

/** The remote replied with an error, whose HTTP status is `status`. */
export class RemoteRefusal extends RemoteError {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The remote's reply is not an answer. */
export class InvalidReply extends RemoteError {}
