//! The table of paths.

/// Makes `Route::of_segments` of a table: a path, then the route. Parts of a path stand between slashes, and names in braces
/// for what differs. `PATHS` lists the paths as documents write them.
macro_rules! paths {
    ($($($segment:tt)/+ => $route:expr),+ $(,)?) => {
        #[cfg(test)]
        const PATHS: &[&str] = &[$(concat!($("/", paths!(@name $segment)),+)),+];

        impl<'a> Route<'a> {
            fn of_segments(segments: &[&'a str]) -> Option<Self> {
                Some(match segments {
                    $([$(paths!(@pattern $segment)),+] => $route,)+
                    _ => return None,
                })
            }
        }
    };
    (@name {$name:ident}) => { concat!("{", stringify!($name), "}") };
    (@name $segment:literal) => { $segment };
    (@pattern {$name:ident}) => { $name };
    (@pattern $segment:literal) => { $segment };
}

pub(super) use paths;
