#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh SHARE LIB LIBRARY...: copies lua/redio to SHARE/redio and the libraries to LIB/redio.
set -e
share=$1 lib=$2
shift 2
find lua/redio -name '*.lua' | while read -r file; do
  to=$share/${file#lua/}
  install -d "${to%/*}"
  install -m 644 "$file" "$to"
  echo "$to"
done
install -d "$lib/redio"
for library; do
  install -m 755 "$library" "$lib/redio"
  echo "$lib/redio/${library##*/}"
done
