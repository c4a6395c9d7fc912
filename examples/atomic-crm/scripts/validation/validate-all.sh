#!/bin/sh
# npm run db:validate:all. Exit code 0: GO.
exec lifeboat --env "${ATOMIC_ENV:-production}" verify db --quick --checks "$(dirname "$0")/../../validate.toml"
