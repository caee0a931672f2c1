#!/bin/bash
# The user that Pixtail connects as. A script, since SQL files cannot read the environment; what it may do is in 3-grants.sql.
set -e
: "${MYSQL_PIXTAIL_PASSWORD:?}"
password=${MYSQL_PIXTAIL_PASSWORD//\\/\\\\}
password=${password//\'/\\\'}
MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --protocol=socket -u root <<SQL
CREATE USER IF NOT EXISTS 'pixtail'@'%' IDENTIFIED BY '$password';
SQL
