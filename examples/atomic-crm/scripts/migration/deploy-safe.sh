#!/bin/sh
# Backup, migrate, validate; taken back by itself when it does not do. Words behind it go to `lifeboat deploy`.
#
# Exit code 0: deployed and good. 1 and 3: everything is as it was. 8: neither, and a person has to go on - with what is printed.
lifeboat --env "${ATOMIC_ENV:-production}" deploy "$@"
code=$?
case $code in
    0) ;;
    1 | 2 | 3 | 4 | 7) echo "deploy-safe: not deployed; database and application are as they were" >&2 ;;
    *)
        echo "deploy-safe: MANUAL - this is how it stands:" >&2
        lifeboat --env "${ATOMIC_ENV:-production}" status >&2
        echo "deploy-safe: next: lifeboat resume; when that does not do: lifeboat rollback --manual" >&2
        ;;
esac
exit $code
